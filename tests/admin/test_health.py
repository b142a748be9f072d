"""Alive and ready, each with what is wrong; asked by a program of its own, quickly."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from databases_made import in_settings, place, server

from config.settings import Settings
from config.shared import Database, SharedSpool
from node.admin import health
from node.storage import roles
from node.storage.store import Store

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def listening() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def settings(tmp_path: Path, listening: int) -> Settings:
    at = place(tmp_path)
    store = Store(at, tmp_path / "spool")
    store.open()
    store.close()
    said = {"node": {"data_dir": tmp_path}, "listener": {"reserve_mb": 0, "port": listening}}
    said |= in_settings(at, tmp_path / "spool")
    return Settings(**said)  # type: ignore[arg-type]


@pytest.fixture
def running(settings: Settings) -> Iterator[None]:
    """All roles, as their locks and notes say."""
    with ExitStack() as held:
        for role in roles.ROLES:
            held.enter_context(roles.only_one(settings.node.data_dir, role))("ready")
        yield


def test_a_node_that_runs_is_alive_and_ready(settings: Settings, running: None) -> None:
    assert health.alive(settings).well
    assert health.ready(settings).checks == {"roles": "", "database": "", "disk": "", "listener": ""}


def test_a_role_that_is_gone_or_not_ready_is_named(settings: Settings) -> None:
    with roles.only_one(settings.node.data_dir, "receive"), roles.only_one(settings.node.data_dir, "infer") as say:
        say("ready")
        assert health.alive(settings).checks["roles"] == "not running: dispatch"
        assert health.ready(settings).checks["roles"] == "not ready: dispatch, receive"


def test_a_server_is_asked_too(settings: Settings, running: None) -> None:
    url = server().new()
    shared = settings.model_copy(update={"database": Database(url=url)})
    assert "does not answer: relation" in health.ready(shared).checks["database"]
    store = Store(url, settings.node.data_dir / "spool")
    store.open()
    store.close()
    assert health.ready(shared).checks["database"] == ""
    nobody = settings.model_copy(update={"database": Database(url="postgresql://x@127.0.0.1:1/x")})
    assert "the database does not answer: connection" in health.ready(nobody).checks["database"]
    assert health.alive(nobody).well, "restarting this would mend nothing"


@pytest.mark.sqlite
def test_a_database_that_is_none_is_said(settings: Settings, running: None) -> None:
    path = settings.node.data_dir / "overread.db"
    path.write_bytes(b"no database at all, " * 100)
    assert health.alive(settings).checks["database"] == "the database does not answer: file is not a database"
    path.unlink()
    assert "unable to open" in health.alive(settings).checks["database"]
    assert not path.exists(), "looking makes none"


def test_disk_and_listener_make_it_unready_and_not_dead(settings: Settings, running: None) -> None:
    listener = settings.listener.model_copy(update={"reserve_mb": 10**9, "port": 1})
    poor = settings.model_copy(update={"listener": listener})
    assert health.alive(poor).well
    found = health.ready(poor)
    assert "listener.reserve_mb = 1000000000" in found.checks["disk"]
    assert found.checks["listener"] == "127.0.0.1:1 takes no connection: Connection refused"


def test_a_host_is_asked_about_the_roles_that_it_has(settings: Settings) -> None:
    folder = settings.node.data_dir
    with roles.only_one(folder, "infer") as say:
        say("ready")
        assert health.ready(settings, ["infer"]).checks == {"roles": "", "database": "", "disk": ""}
        assert health.ready(settings, ["infer", "web"]).checks["roles"] == "not ready: web"
        assert "listener" in health.ready(settings, ["receive"]).checks


def test_a_host_of_several_has_the_roles_that_its_serve_was_told(settings: Settings) -> None:
    folder = settings.node.data_dir
    said = {"database": Database(url=server().new()), "spool": SharedSpool(dir=folder)}
    shared = settings.model_copy(update=said)
    assert health.alive(shared).checks["roles"] == "not running: dispatch, infer, receive, web"
    with roles.own(folder, ["dispatch"]):
        assert health.alive(shared).checks["roles"] == "not running: dispatch"
        with roles.only_one(folder, "dispatch") as say:
            assert health.ready(shared).checks["roles"] == "not ready: dispatch"
            say("ready")
            assert health.ready(shared).checks["roles"] == ""
            assert "listener" not in health.ready(shared).checks


def test_a_role_that_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "overread.toml"
    file.write_text("")
    assert health.report(file, only_alive=True, as_json=False, wanted="infer,deliver") == 2
    assert "no such role: deliver (have: receive, infer, dispatch, web)" in capsys.readouterr().err


def spent() -> float:
    """Seconds of processor of all programs that were started: others on this machine do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.sqlite
def test_the_command_is_quick_and_its_exit_code_says_it(settings: Settings, running: None, tmp_path: Path) -> None:
    file = tmp_path / "overread.toml"
    file.write_text(f'[node]\ndata_dir = "."\n[listener]\nreserve_mb = 0\nport = {settings.listener.port}\n')
    command = [sys.executable, "-m", "node.start", "health", "--config", str(file)]
    took = []
    for _ in range(3):
        began = spent()
        done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
        took.append(spent() - began)
        assert (done.returncode, json.loads(done.stdout)["well"]) == (0, True), done.stderr
    assert min(took) < 0.5
    (tmp_path / "overread.db").unlink()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "database  the database does not answer" in done.stdout
    done = subprocess.run([*command[:-1], "nowhere.toml"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (2, "nowhere.toml: no such file (make one with `overread init`)")


def test_a_health_check_loads_nothing_heavy() -> None:
    code = "import sys, node.start, node.admin.health; print([m for m in HEAVY if m in sys.modules])"
    heavy = ["sqlalchemy", "pydicom", "pynetdicom", "numpy", "typer", "rich", "tensorflow", "prometheus_client"]
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {heavy!r}; {code}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
