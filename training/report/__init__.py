"""A run as one page that people look at: `write(story, path)` makes report.html; audits and comparisons have theirs.

One file, no network, no script. Computes curves from the story's arrays; decides nothing and changes nothing.
"""

from training.report.brief import write_audit, write_comparison, write_json
from training.report.page import write
from training.report.story import Example, Refused, Story

NAME = "report.html"

__all__ = ["NAME", "Example", "Refused", "Story", "write", "write_audit", "write_comparison", "write_json"]
