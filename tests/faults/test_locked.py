"""Another process holds the database locked for longer than anybody waits: refused in time, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from receiving import counted, sender_to, uid_of
from running import RunningNode

from node.network.standin import StandIn
from node.storage.database import BUSY_SECONDS, Scope
from node.storage.postgres import BEGIN

pytestmark = [pytest.mark.fault, pytest.mark.slow]

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(node: RunningNode) -> Iterator[None]:
    if url := node.settings.database.url:  # as a program of ours that hangs in the middle of writing
        with psycopg.connect(url) as connection:
            connection.execute(BEGIN[Scope.ALL])
            yield
        return
    command = [sys.executable, "-c", HOLD, str(node.settings.node.data_dir / "overread.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"locked\n"
        yield
        process.stdin.close()
        process.wait(10)


def test_a_database_that_is_locked_for_long_is_refused_in_time_and_loses_nothing(
    tmp_path: Path, film: Callable[..., Path]
) -> None:
    pacs = StandIn(tmp_path / "pacs", ae_title="PACS")
    pacs.start()
    node = RunningNode(tmp_path / "node", ("PACS", pacs.port), stub=True)
    node.start()
    before, meanwhile = film(), film()
    sender = sender_to(node, timeout=60)
    assert [o.status for _, o in sender.send([before])] == [0x0000]
    try:
        with locked(node):
            started = time.monotonic()
            assert [o.status for _, o in sender.send([meanwhile])] == [0xA700]
            assert BUSY_SECONDS - 1 < time.monotonic() - started < BUSY_SECONDS + 5
            started = time.monotonic()
            other = sender_to(node)
            assert other.echo() < 2
            sender.close()
        sender = sender_to(node)
        assert [o.status for _, o in sender.send([meanwhile])] == [0x0000]
        sender.close()
        for path in (before, meanwhile):
            node.finish(uid_of(path), seconds=60)
            assert counted(pacs, uid_of(path)) == {"SR": 1, "OT": 1}
        assert "role.died" not in node.log
        assert node.is_ready()
        assert node.problems() == []
    finally:
        node.stop()
        pacs.stop()
