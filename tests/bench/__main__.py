"""`make bench`, or `python -m tests.bench [PART ...]`: every benchmark, one after another, each a process of its own.

Each prints its own tables; nothing is asserted. A part whose programs or packages are missing says so, and the others
go on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = (
    "roundtrip",
    "accept",
    "receive",
    "memory",
    "study",
    "queueing",
    "database",
    "backlog",
    "bulk",
    "sizing",
    "predictor",
    "engines",
    "throughput",
    "streaming",
)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    wanted = parser.parse_args().parts or PARTS
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))} (have: {', '.join(PARTS)})")
    failed = []
    for part in wanted:
        print(f"\n== {part}", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.bench.{part}"], cwd=ROOT.parent, check=False).returncode:
            failed.append(part)
    if failed:
        print(f"\nNot measured: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
