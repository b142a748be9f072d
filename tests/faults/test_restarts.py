"""How long a dead role waits, and what its supervisor survives; no process is started."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from node.network.orthanc import free_port
from node.reload import Reloaded, Steps
from node.service import BAD_SETTINGS
from node.storage import roles, schema
from node.storage.store import Store
from node.supervisor import Child, Supervisor


class Process:
    """Stands for one that started and ended with a code."""

    stdin = None

    def __init__(self, code: int | None = 1) -> None:
        self.pid = 4242
        self.code = code

    def poll(self) -> int | None:
        return self.code

    def wait(self, _timeout: float | None = None) -> int | None:
        return self.code


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Supervisor]:
    settings = Settings.model_validate({"node": {"data_dir": tmp_path / "data"}, "listener": {"reserve_mb": 0}})
    hangup = threading.Event()
    made = Supervisor(settings, tmp_path / "overread.toml", ["receive"], lambda *_, **__: None, hangup=hangup)
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    yield made
    made._parts.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """What happens when a process is to be started: an exception is raised, anything else returned."""

    def set_to(outcome: Any) -> list[Any]:
        tried: list[Any] = []

        def popen(command: list[str], **_: Any) -> Any:
            tried.append(command)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(subprocess, "Popen", popen)
        return tried

    return set_to


def deaths(every: float, *, ready: bool, count: int = 9) -> list[float]:
    child = Child("receive")
    return [child.died(1000.0 + every * n, ready=ready) for n in range(count)]


def test_a_role_that_worked_and_dies_seldom_is_restarted_at_once() -> None:
    assert deaths(11, ready=True) == [0.0] * 9


def test_a_role_that_gets_ready_and_dies_each_time_waits_up_to_five_seconds() -> None:
    assert deaths(1, ready=True) == [0, 0.5, 1, 2, 5, 5, 5, 5, 5]


def test_a_role_that_never_gets_ready_waits_up_to_half_a_minute() -> None:
    assert deaths(60, ready=False) == [0.5, 1, 2, 5, 10, 30, 30, 30, 30]


def test_a_role_that_worked_once_never_waits_long() -> None:
    child = Child("receive")
    child.died(0, ready=True)
    assert max(child.died(float(n), ready=False) for n in range(1, 20)) == 5


def test_calm_is_forgiven() -> None:
    child = Child("receive")
    for n in range(5):
        child.died(float(n), ready=True)
    assert child.died(100, ready=True) == 0
    assert child.died(101, ready=True) == 0.5


def test_a_supervisor_that_cannot_start_a_process_tries_again(
    watched: Supervisor, starts: Any, caplog: pytest.LogCaptureFixture
) -> None:
    starts(OSError(errno.EAGAIN, "Resource temporarily unavailable"))
    child = Child("receive")
    assert watched._tend(child, 100.0)
    assert "Resource temporarily unavailable" in caplog.text
    tried = starts(Process(None))
    watched._tend(child, 101.0)
    assert tried == []
    watched._tend(child, 102.0)
    assert len(tried) == 1 and child.restart_at is None


def note(watched: Supervisor, text: str) -> None:
    folder = watched._settings.node.data_dir / roles.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "receive.json").write_text(text)


def test_a_note_without_a_state_is_no_readiness(watched: Supervisor) -> None:
    note(watched, '{"pid": 4242}')
    child = Child("receive", Process(), restart_at=None)  # type: ignore[arg-type]
    assert watched._tend(child, 100.0)
    assert child.restart_at == 100.5


@pytest.mark.parametrize(("pid", "given_back"), [(4242, ["receive"]), (1, [])])
def test_only_a_process_that_had_the_role_gives_its_jobs_back(
    watched: Supervisor, monkeypatch: pytest.MonkeyPatch, pid: int, given_back: list[str]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(watched, "_give_back", done.append)
    note(watched, f'{{"pid": {pid}, "state": "starting"}}')
    watched._tend(Child("receive", Process(), restart_at=None), 100.0)  # type: ignore[arg-type]
    assert done == given_back


@pytest.mark.parametrize(("died_at", "good"), [(None, False), (50.0, True)])
def test_settings_are_refused_for_good_only_at_the_first_start(
    watched: Supervisor, died_at: float | None, good: bool
) -> None:
    child = Child("receive", Process(BAD_SETTINGS), restart_at=None, died_at=died_at)  # type: ignore[arg-type]
    assert watched._tend(child, 100.0) is good


def test_a_role_that_refuses_its_settings_ends_the_program(watched: Supervisor, starts: Any) -> None:
    starts(Process(BAD_SETTINGS))
    assert watched.run() == BAD_SETTINGS


def test_a_hangup_takes_the_settings_up_once(watched: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter([signal.SIGHUP, None, None, None, signal.SIGTERM])
    asked: list[Path] = []

    def tend(_child: Child, _now: float) -> bool:
        number = next(turns)
        if number == signal.SIGHUP:
            watched._hangup.set()
        elif number:
            os.kill(os.getpid(), number)
        return True

    def reload(file: Path, *_: object, **__: object) -> Steps:
        asked.append(file)
        yield
        return Reloaded(said=("peer x was added",), settings=watched._settings)

    monkeypatch.setattr(watched, "_tend", tend)
    monkeypatch.setattr("node.supervisor.reload", reload)
    assert watched.run() == 0
    assert asked == [watched._file]
    said = watched._said
    assert (said["begun"], said["ended"], said["refused"], said["said"]) == (1, 1, "", ("peer x was added",))


def test_a_reload_that_fails_in_a_way_nobody_thought_of_ends_nothing(
    watched: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def reload(*_: object, **__: object) -> Steps:
        yield
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("node.supervisor.reload", reload)
    watched._hangup.set()
    for _ in range(3):
        watched._step_reload()
    assert watched._said["refused"].startswith(f"{watched._file}: could not be taken up: OSError at ")
    assert "the node runs on with those that it had" in caplog.text
    assert watched._reload is None


def test_a_role_that_is_renewed_is_not_counted_as_dead(watched: Supervisor, starts: Any) -> None:
    tried = starts(Process(None))
    (child,) = watched._children
    process = Process(None)
    child.process, child.restart_at = process, None  # type: ignore[assignment]
    watched._renew("receive")
    assert child.renew_by is not None and tried == []
    process.code = 1
    assert watched._tend(child, 100.0)
    assert (len(tried), child.renew_by, child.deaths, child.died_at) == (1, None, 0, None)


def test_a_renewed_role_that_refuses_its_settings_does_not_end_the_node(watched: Supervisor, starts: Any) -> None:
    starts(Process(BAD_SETTINGS))
    (child,) = watched._children
    process = Process(None)
    child.process, child.restart_at = process, None  # type: ignore[assignment]
    watched._renew("receive")
    process.code = 0
    assert watched._tend(child, 100.0) and watched._tend(child, 100.1)
    assert child.restart_at is not None and child.restart_at > 100


def test_a_role_that_does_not_end_when_it_is_renewed_is_killed(watched: Supervisor) -> None:
    class Stubborn(Process):
        def kill(self) -> None:
            self.code = -9

    (child,) = watched._children
    process = Stubborn(None)
    child.process, child.restart_at = process, None  # type: ignore[assignment]
    watched._renew("receive")
    assert child.renew_by is not None
    watched._tend(child, child.renew_by - 1)
    assert process.code is None
    watched._tend(child, child.renew_by + 1)
    assert process.code == -9


# --- while it starts -------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "overread.toml"
    path.write_text(f'[node]\ndata_dir = "data"\n[listener]\nport = {free_port()}\nreserve_mb = 0\n')
    return path


@pytest.fixture
def earlier(file: Path) -> Iterator[Store]:
    """A database of an earlier version."""
    data = file.parent / "data"
    store = Store(data / "overread.db", data / "spool")
    store.open()
    store.migrate("0001")
    yield store
    store.close()


def test_tables_are_not_changed_under_who_still_works_with_them(file: Path, earlier: Store) -> None:
    data = file.parent / "data"
    with roles.own(data, ["receive", "dispatch", "pull-3"]):
        command = [sys.executable, "-m", "node.supervisor", str(file), "web"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, earlier.revision()) == (2, "0001")
    assert (
        "the tables of an earlier version are brought up to date only while nobody else works in the data folder "
        f"{data}: first stop the `overread serve` (or pull) that has dispatch, pull-3, receive"
    ) in done.stderr


def test_some_roles_alone_change_the_tables_while_nobody_has_the_others(file: Path, earlier: Store) -> None:
    settings = Settings.load(file)
    with Supervisor(settings, file, ["web"], lambda *_, **__: None, hangup=threading.Event())._parts as parts:
        assert parts.store.revision() == schema.REVISION


def test_a_hangup_at_any_moment_of_the_start_ends_nothing(file: Path) -> None:
    """Sent all the time from the first moment: by a service manager that reloads what it has just started."""
    command = [sys.executable, "-c", SERVE, str(file)]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert node.stdout is not None and node.stdout.readline() == b"starts\n"
    data, until = file.parent / "data", time.monotonic() + 60
    try:
        while not roles.supervisors(data) and time.monotonic() < until:
            os.kill(node.pid, signal.SIGHUP)
            assert node.poll() is None
            time.sleep(0.01)
        while (said := roles.supervisors(data)) and not said["supervisor-web"]["ended"] and time.monotonic() < until:
            time.sleep(0.05)
        assert said["supervisor-web"]["ended"] >= 1, "what was asked meanwhile was done afterwards"
    finally:
        node.terminate()
        node.wait(30)
        node.stdout.close()


SERVE = """
import os, sys
execv = os.execv
def then(*arguments):
    print("starts", flush=True)
    execv(*arguments)
os.execv = then
sys.argv = ["overread", "serve", "--roles", "web", "--config", sys.argv[1]]
from node.cli import app
app()
"""
"""`overread serve`, which says when it becomes the supervisor."""
