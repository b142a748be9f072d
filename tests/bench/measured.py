"""What every benchmark shares: ways that take turns in random order, and tables of medians with their spread.

A ratio is the median over the rounds of the reference's value by another's, with the smallest and the largest: above 1
is that much faster, or less. What else the machine does then hits both sides of a ratio alike.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Found = dict[str, list[float]]


def rounds(count: int, ways: Mapping[str, Callable[[], float]]) -> Found:
    """What each way gave in each round."""
    found: Found = {name: [] for name in ways}
    for _ in range(count):
        for name in random.sample(list(ways), len(ways)):
            found[name].append(ways[name]())
    return found


def timed(call: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a call takes; by `time.process_time` those that it computes, whatever else the machine does."""
    began = clock()
    call()
    return clock() - began


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):8.2f} {min(values):8.2f} {max(values):8.2f}"


def ratio(reference: Sequence[float], values: Sequence[float]) -> str:
    found = [a / b if b else float("inf") for a, b in zip(reference, values, strict=True)]
    return f"{statistics.median(found):8.2f} ({min(found):.2f} to {max(found):.2f})"


def table(title: str, unit: str, found: Found, *, times: float = 1.0) -> None:
    """Print all ways, held against the first one; `times` makes what was measured the `unit`."""
    reference = next(iter(found))
    print(f"\n{title}")
    print(f"  {unit:<34}{'median':>9}{'min':>9}{'max':>9}   times better than {reference}")
    for name, values in found.items():
        print(f"  {name:<34} {spread([times * v for v in values])}   {ratio(found[reference], values)}", flush=True)


def megabytes(pid: int | str, key: str) -> float:
    """Memory of a process by the name that proc(5) has for it, such as VmRSS."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(key)).split()[1]) / 1024


def processor_seconds(pid: int) -> float:
    """What a process has computed so far, with its children that have ended."""
    # proc(5): the name in brackets may hold blanks; behind it the times are fields 12 to 15
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
