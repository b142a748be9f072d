"""Many processes claim from one queue, and half of them are killed in the middle of their work."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from databases_made import where
from sqlalchemy import select

from node.domain import JobState, Study
from node.storage import jobs, queue, schema
from node.storage.store import Store

pytestmark = pytest.mark.fault
JOBS, CLAIMERS, KILLED = 200, 8, 6
LEASE, WORK = 6.0, 0.02
"""Seconds; a lease is far longer than three jobs take, also on a loaded machine."""


def claimer(n: int, place: Path | str, spool: Path, log: Path) -> None:
    """Takes jobs until all have ended. One line for each claim and for each answer that counted."""
    store = Store(place, spool)
    store.open()
    out = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    while True:
        works = queue.claim(store, f"w{n}", 3, now=store.now(), lease=LEASE)
        for work in works:
            os.write(out, f"claimed {work.job.id} {work.job.fence} {work.job.attempts}\n".encode())
        for work in works:
            time.sleep(WORK)
            if jobs.finish(store, work.job, JobState.DONE, [], [], reason="", now=store.now()):
                os.write(out, f"ended {work.job.id} {work.job.fence} {n}\n".encode())
        if not works:
            with store.read() as connection:
                open_ = select(schema.job.c.id).where(schema.job.c.state.in_(["QUEUED", "LEASED"])).limit(1)
                if connection.execute(open_).first() is None:
                    return
            time.sleep(0.05)


def test_each_job_is_one_s_at_a_time_and_ends_once(store: Store, routed: Callable[..., Study], tmp_path: Path) -> None:
    for n in range(JOBS):
        routed(f"1.{n}", now=store.now())
    log = tmp_path / "log"
    spawn = multiprocessing.get_context("spawn")

    def begun(n: int) -> multiprocessing.process.BaseProcess:
        process = spawn.Process(target=claimer, args=(n, where(store), tmp_path / "spool", log), daemon=True)
        process.start()
        return process

    def ended() -> int:
        return log.read_text().count("ended") if log.exists() else 0

    running = [begun(n) for n in range(CLAIMERS)]
    chance = random.Random(1)
    for k in range(KILLED):
        until = time.monotonic() + 60
        while ended() < JOBS * (k + 1) // (KILLED + 2):
            assert time.monotonic() < until
            time.sleep(0.01)
        victim = chance.randrange(CLAIMERS)
        os.kill(running[victim].pid or 0, signal.SIGKILL)
        running[victim].join()
        running[victim] = begun(CLAIMERS + k)
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    lines = [line.split() for line in log.read_text().splitlines()]
    claims = [(int(job), int(fence)) for what, job, fence, _ in lines if what == "claimed"]
    answers = Counter(int(job) for what, job, *_ in lines if what == "ended")
    with store.read() as connection:
        rows = {row.id: row for row in connection.execute(select(schema.job))}
    assert {row.state for row in rows.values()} == {"DONE"} and len(rows) == JOBS
    # nobody was given what another one held, and each turn was counted
    assert len(claims) == len(set(claims))
    told = Counter(job for job, _ in claims)
    for job, row in rows.items():
        # a claimer may die between the claim and its line, or between the answer and its line
        assert row.attempts == row.fence and told[job] <= row.fence <= told[job] + KILLED
        assert answers[job] <= 1
    assert JOBS - KILLED <= sum(answers.values()) <= JOBS
    assert sum(row.fence for row in rows.values()) <= JOBS + 3 * KILLED, "only what the killed ones held is done again"
