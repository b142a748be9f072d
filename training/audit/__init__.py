"""What could make a figure look better than the model is. Runs before any figure is believed.

`audited` runs every check; `verdict` holds the one table of limits. Reads films and tables, never changes anything.
"""

from __future__ import annotations

from training.audit.leaks import joined
from training.audit.model_checks import hide
from training.audit.verdict import LIMITS, Audit, Check, Question, Status, concluded
from training.audit.whole import audited, of_items, printed

__all__ = [
    "LIMITS",
    "Audit",
    "Check",
    "Question",
    "Status",
    "audited",
    "concluded",
    "hide",
    "joined",
    "of_items",
    "printed",
]
