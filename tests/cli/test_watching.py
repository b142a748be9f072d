"""What watches a node, as a person or a program asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import House
from told_here import Hook, serving
from typer.testing import Result

from node.admin.alarms import Watchman

Overread = Callable[..., Result]


@pytest.fixture
def hook(file: Path) -> Iterator[Hook]:
    """A webhook that the settings name."""
    with serving(Hook()) as server:
        file.write_text(f'{file.read_text()}\n[alarm]\nafter_seconds = 0\nwebhook = "{server.url}"\n')
        yield server


def test_alarms_are_shown_with_what_to_do_and_whether_they_were_told(
    hook: Hook, house: House, overread: Overread
) -> None:
    done = overread("alarms")
    assert done.exit_code == 1
    assert "critical the role dispatch is not running" in done.stdout
    assert "not told yet" in done.stdout
    Watchman(house.store, house.spool, settings=house.settings).step()
    said = [json.loads(line) for line in overread("alarms", "--json").stdout.splitlines()]
    assert {one["key"] for one in said} >= {"role.dispatch", "role.infer", "role.receive"}
    assert all(one["raised_at"] for one in said)
    assert "told 20" in overread("alarms").stdout


def test_a_test_is_told_and_its_outcome_shown(hook: Hook, overread: Overread) -> None:
    done = overread("alarms", "--test")
    assert (done.exit_code, done.stdout.strip()) == (0, "webhook: told")
    assert [body["event"] for _, _, body in hook.got] == ["test"]
    hook.status = 500
    done = overread("alarms", "--test", "--json")
    assert done.exit_code == 1
    error = "the webhook at 127.0.0.1 answered 500 Internal Server Error"
    assert json.loads(done.stdout) == {"channel": "webhook", "told": False, "error": error}


def test_a_test_that_nobody_would_hear_says_so(overread: Overread) -> None:
    done = overread("alarms", "--test")
    assert done.exit_code == 2
    assert "nobody is told of alarms: set [alarm] webhook or mail" in done.stderr


def test_metrics_are_printed_or_put_into_a_file(overread: Overread, house: House, tmp_path: Path) -> None:
    printed = overread("metrics")
    assert printed.exit_code == 0
    assert "# TYPE overread_studies gauge" in printed.stdout
    out = tmp_path / "overread.prom"
    assert overread("metrics", "--out", out).exit_code == 0
    assert "# TYPE overread_studies gauge" in out.read_text()
    done = overread("metrics", "--out", tmp_path / "nowhere" / "x.prom")
    assert done.exit_code == 2
    assert "cannot be written: No such file or directory" in done.stderr


def test_health_is_an_exit_code(overread: Overread, house: House) -> None:
    done = overread("health")
    assert done.exit_code == 1
    assert "roles     not ready: dispatch, infer, receive" in done.stdout
    assert overread("health", "--alive").stdout.splitlines()[-1] == "database  ok"


def test_a_canary_without_a_node_says_where_it_ended(overread: Overread, house: House) -> None:
    done = overread("canary")
    assert done.exit_code == 1
    assert done.stdout.strip() == "chest: wrong receive: the listener does not run"
    assert house.spool.tmp.is_dir() and list(house.spool.tmp.iterdir()) == []
    assert "canary.chest" in overread("alarms", "--json").stdout
