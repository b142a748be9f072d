"""What an administrator sees of hosts that share a database: status, alarms, health, metrics, the dashboard's page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hosts_made import let_pass, new_database, say, store_on
from typer.testing import CliRunner

from config.settings import Settings
from node.admin import health
from node.admin.flow import flow
from node.admin.hosts import alarms, table
from node.admin.metrics import Exporter
from node.admin.overview import overview
from node.cli import app
from node.pipeline.place import spool_of, store_of
from node.storage import hosts, roles
from node.storage.store import Store
from node.web import view

SETTINGS = """
[node]
data_dir = "data"
[listener]
reserve_mb = 0
[database]
url = "{url}"
[spool]
dir = "shared"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "overread.toml"
    file.write_text(SETTINGS.format(url=new_database()))
    return Settings.load(file)


@pytest.fixture
def here(settings: Settings) -> Iterator[Store]:
    spool_of(settings).open()
    made = store_of(settings)
    made.open()
    yield made
    made.close()


@pytest.fixture
def there(settings: Settings, here: Store) -> Iterator[Store]:
    made = store_on("b2", str(settings.database_at), settings.spool_dir)
    yield made
    made.close()


def keys(store: Store) -> list[str]:
    return [alarm.key for alarm in alarms(store)]


def test_a_role_that_no_host_runs_is_an_alarm(here: Store, there: Store) -> None:
    assert keys(here) == ["role.receive", "role.infer", "role.dispatch"]
    say(here, "receive", "infer-gpu:0")
    say(there, "dispatch")
    assert keys(here) == []
    let_pass(here, "b2", 90)
    assert keys(here) == ["role.dispatch", "host.b2.gone"]
    (_, gone) = alarms(here)
    assert gone.sentence.startswith("the host name-b2 (b2) was last seen 2 minutes ago: it had dispatch")


def test_what_is_wrong_on_a_host_is_an_alarm_of_all(here: Store, there: Store) -> None:
    say(here)
    say(there, settings="other")
    assert keys(here) == ["hosts.differ"]
    assert sum(row["differs"] for row in table(here)) == 1
    say(there)
    hosts.say(there, name="b", version="1", settings="alike", roles={"infer": "not running"}, reason="[peer] is wrong")
    assert keys(here) == ["host.b2.infer", "host.b2.wrong"]


def test_status_and_flow_show_each_host(settings: Settings, here: Store, there: Store) -> None:
    say(here)
    say(there, "infer")
    let_pass(here, "b2", 90)
    seen = overview(settings, here, here.spool, now=here.now())
    assert {host["id"]: (host["here"], host["seen"]) for host in seen["hosts"]} == {
        here.host: (True, True),
        "b2": (False, False),
    }
    told = CliRunner().invoke(app, ["status", "--config", str(settings.file)])
    assert "this one" in told.stdout
    assert "gone since" in told.stdout
    as_json = CliRunner().invoke(app, ["status", "--json", "--config", str(settings.file)])
    assert {host["id"] for host in json.loads(as_json.stdout)["hosts"]} == {here.host, "b2"}
    shown = view.fragment("parts/flow.html", flow=flow(settings, here, here.spool, now=here.now()), now=here.now())
    assert '<h2 id="hosts">Hosts</h2>' in shown
    assert "name-b2" in shown


def test_metrics_say_when_each_host_was_seen(settings: Settings, here: Store, there: Store) -> None:
    say(there)
    text = Exporter(settings, here, here.spool).rendered()[0].decode()
    assert 'overread_host_seen_seconds{host="b2",name="name-b2",version="1.0"}' in text


def test_health_is_that_of_the_roles_that_a_host_has(settings: Settings, here: Store) -> None:
    data = settings.node.data_dir
    assert health.alive(settings).checks["roles"] == "not running: dispatch, infer, receive, web"
    with ExitStack() as held:
        held.enter_context(roles.own(data, ["infer"]))
        held.enter_context(roles.only_one(data, "infer"))("ready")
        assert health.ready(settings).checks == {"roles": "", "database": "", "disk": ""}
        assert roles.here(data) == {"infer": "ready"}
    # its `overread serve` was killed
    assert health.alive(settings).checks["roles"] == "not running: infer"
    assert roles.here(data) == {}


def test_a_pull_is_said_too_and_other_locks_are_not(tmp_path: Path) -> None:
    with roles.own(tmp_path, ["pull-3", "canary", "receive"]):
        assert roles.here(tmp_path) == {"pull-3": "ready", "receive": "not running"}


def test_a_database_server_that_is_not_there_is_said_within_seconds(tmp_path: Path) -> None:
    file = tmp_path / "overread.toml"
    file.write_text(SETTINGS.format(url="postgresql://overread@127.0.0.1:1/overread"))
    said = health.ready(Settings.load(file)).checks["database"]
    assert said.startswith("the database does not answer: connection ")
