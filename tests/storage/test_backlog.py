"""The steps of the queue do as much work when it is long as when it is short; counted in SQLite's own instructions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bench.backlog import filled, steps
from sqlalchemy import event

SHORT, LONG = 100, 400


def instructions(tmp_path: Path, jobs: int) -> dict[str, int]:
    """How many of SQLite's instructions each step runs."""
    folder = tmp_path / str(jobs)
    folder.mkdir()
    store = filled(folder, jobs)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1

    @event.listens_for(store.engine, "checkout")
    def _counted(connection: object, *_: object) -> None:
        connection.set_progress_handler(count, 1)  # type: ignore[attr-defined]

    found = {}
    for name, step in steps(folder, store).items():
        done = 0
        step()
        found[name] = done
    store.close()
    return found


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[int, int]]:
    short, long = (instructions(tmp_path_factory.mktemp("backlog"), jobs) for jobs in (SHORT, LONG))
    return lambda name: (short[name], long[name])


@pytest.mark.parametrize(
    "step", ["remember an instance", "settle_due", "queue.claim", "queue.next_due", "deliveries.claim"]
)
def test_a_step_does_not_grow_with_the_queue(step: str, counted: Callable[[str], tuple[int, int]]) -> None:
    short, long = counted(step)
    assert 0 < long < 1.2 * short


@pytest.mark.parametrize(("step", "few"), [("studies.counts", 12), ("figures", 24), ("overview", 20)])
def test_counting_reads_a_few_instructions_of_an_index_for_each_row(
    step: str, few: int, counted: Callable[[str], tuple[int, int]]
) -> None:
    short, long = counted(step)
    studies, jobs, deliveries = LONG - SHORT, LONG - SHORT, LONG - SHORT
    assert 0 < long - short < few * (studies + jobs + deliveries)
