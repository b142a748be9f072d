"""The program's first step: a health check that is asked every few seconds does not load what other commands need."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of `overread`."""
    if sys.argv[1:2] == ["health"]:
        from node.admin import health

        sys.exit(health.main(sys.argv[2:]))
    from node.cli import main as program

    program()


if __name__ == "__main__":
    main()
