"""Commands as a person types them, against a data folder without running roles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import House, make_image
from pydicom import dcmread
from typer.testing import CliRunner, Result

from config.settings import Settings
from node.cli import app
from node.cli.printing import guarded
from node.domain import StudyState
from node.network.standin import StandIn
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.service import open_parts

SETTINGS = """
[node]
data_dir = "data"
[listener]
port = {listener}
reserve_mb = 0
[deliver]
timeout_seconds = 5
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
[[peer]]
name = "modality"
ae_title = "MODALITY"
networks = ["127.0.0.1"]
may = ["send"]
[[route]]
name = "chest"
when = {{ Modality = ["CR"] }}
bundle = "cardiomegaly"
deliver_to = ["pacs"]
"""


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def file(tmp_path: Path, pacs: StandIn) -> Path:
    from node.network.orthanc import free_port

    path = tmp_path / "overread.toml"
    path.write_text(SETTINGS.format(port=pacs.port, listener=free_port()))
    return path


@pytest.fixture
def house(file: Path) -> Iterator[House]:
    settings = Settings.load(file)
    parts = open_parts(settings)
    made = House(settings, parts.store, parts.spool, parts.bell, settings.node.data_dir)
    yield made
    parts.store.close()
    parts.bell.close()


@pytest.fixture
def overread(file: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments), "--config", str(file)], catch_exceptions=False)

    return run


def routed(house: House, path: Path) -> Any:
    house.receive(path)
    house.now += 100
    settle_due(house.store, house.settings, house.now)
    return route_study(
        house.store, house.only_study(), [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route], house.now
    )


def test_init_writes_settings_that_load(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    assert CliRunner().invoke(app, ["init", str(path)]).exit_code == 0
    assert Settings.load(path).peer
    again = CliRunner().invoke(app, ["init", str(path)])
    assert again.exit_code == 2


def test_show_tells_the_story(house: House, overread: Any, tmp_path: Path) -> None:
    study = routed(house, make_image(tmp_path / "a.dcm"))
    for name in (str(study.id), study.log_id, study.study_instance_uid, "A1"):
        done = overread("show", name)
        assert done.exit_code == 0
        assert "settled as revision 1" in done.stdout
    said = json.loads(overread("show", "1", "--json").stdout)
    assert said["study"]["state"] == "ROUTED"
    assert said["routes"][0]["reason"] == "1 of 1 images match"


def test_a_study_that_is_not_there_is_said_so(file: Path) -> None:
    import sys
    from unittest import mock

    with (
        mock.patch.object(sys, "argv", ["overread", "show", "77", "--config", str(file)]),
        pytest.raises(SystemExit) as ended,
    ):
        guarded(app)
    assert ended.value.code == 2


def test_route_explain_names_the_condition(house: House, overread: Any, tmp_path: Path) -> None:
    routed(house, make_image(tmp_path / "a.dcm", Modality="DX"))
    done = overread("route", "explain", "1")
    assert "Modality DX is not in CR" in done.stdout


def test_held_studies_are_listed_and_decided(house: House, overread: Any, tmp_path: Path) -> None:
    first = make_image(tmp_path / "a.dcm")
    routed(house, first)
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    house.receive(make_image(tmp_path / "b.dcm", **same, PatientID="P2"))
    assert "'P1' was, 'P2' came" in overread("held", "list").stdout
    assert overread("held", "accept", "1").exit_code == 0
    assert house.only_study().state is StudyState.RECEIVING
    assert overread("held", "list").stdout == ""


def test_settle_ends_the_waiting(house: House, overread: Any, tmp_path: Path) -> None:
    house.begin()
    house.put(make_image(tmp_path / "a.dcm"))
    assert overread("settle", "1").exit_code == 0
    study = house.only_study()
    assert (study.state, study.settled_by) == (StudyState.SETTLED, "a person said so")
    assert overread("settle", "1").exit_code == 2


def test_verify_is_quiet_when_all_is_well_and_says_what_is_not(house: House, overread: Any, tmp_path: Path) -> None:
    house.receive(make_image(tmp_path / "a.dcm"))
    assert overread("verify").exit_code == 0
    next(iter(house.spool.objects())).write_bytes(b"altered")
    done = overread("verify")
    assert (done.exit_code, "I1" in done.stdout) == (1, True)


def test_purge_only_says_what_it_would_do(house: House, overread: Any, tmp_path: Path) -> None:
    house.now = 1_600_000_000.0
    routed(house, make_image(tmp_path / "a.dcm", Modality="CT"))
    done = overread("purge", "--dry-run")
    assert "unrouted for 24 hours" in done.stdout
    assert len(list(house.spool.objects())) == 1
    overread("purge")
    assert list(house.spool.objects()) == []


def test_status_calls_for_a_person_when_no_role_runs(house: House, overread: Any) -> None:
    done = overread("status", "--json")
    said = json.loads(done.stdout)
    assert done.exit_code == 1
    assert "the role receive is not running" in said["alarms"]


def test_echo_and_send_reach_the_peer(overread: Any, pacs: StandIn, tmp_path: Path) -> None:
    assert "answered in" in overread("echo", "pacs").stdout
    make_image(tmp_path / "a.dcm")
    done = overread("send", tmp_path / "a.dcm", "--to", "pacs")
    assert (done.exit_code, "1 of 1 files stored" in done.stdout) == (0, True)
    assert len(pacs.received()) == 1


def test_a_refused_file_is_reported_and_the_exit_code_says_so(overread: Any, pacs: StandIn, tmp_path: Path) -> None:
    pacs.answer = lambda _uid: 0xA700
    make_image(tmp_path / "a.dcm")
    done = overread("send", tmp_path / "a.dcm", "--to", "pacs", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["status"] == 0xA700


def test_an_unknown_peer_is_answered_with_those_that_are_there(overread: Any) -> None:
    done = overread("echo", "nobody")
    assert done.exit_code == 2
    assert "have: pacs, modality" in done.stderr


def test_a_peer_that_only_sends_cannot_be_sent_to(overread: Any) -> None:
    assert overread("echo", "modality").exit_code == 2


def test_retry_counts_what_it_woke(house: House, overread: Any, tmp_path: Path) -> None:
    routed(house, make_image(tmp_path / "a.dcm"))
    assert "0 jobs and 0 deliveries" in overread("retry", "1").stdout


def test_serve_refuses_unknown_roles(overread: Any) -> None:
    done = overread("serve", "--roles", "receive,guess")
    assert done.exit_code == 2
    assert "guess" in done.stderr
