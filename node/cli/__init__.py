"""The commands of `overread`: they parse, print and exit; what they do is done elsewhere.

Exit codes: 0 done; 1 something is wrong with what was asked about (a peer refused, a file failed, an invariant is
violated); 2 the command or the settings are not usable.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from node.cli import (
    accounts,
    bundles,
    conformance,
    decisions,
    editing,
    exports,
    keeping,
    peer,
    pulling,
    results,
    running,
    sending,
    studies,
    trial,
    watching,
    web,
)
from node.cli.printing import app, guarded

__all__ = [
    "accounts",
    "app",
    "bundles",
    "conformance",
    "decisions",
    "editing",
    "exports",
    "keeping",
    "main",
    "peer",
    "pulling",
    "results",
    "running",
    "sending",
    "studies",
    "trial",
    "watching",
    "web",
]


def main() -> None:
    """The entry point: known errors become one line and an exit code."""
    guarded(app)
