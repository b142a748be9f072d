"""Commands as a person types them, against a data folder without running roles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import models_made
import pytest
from house import House, make_image
from typer.testing import CliRunner

from config.settings import Settings
from models.bundle import Bundle, BundleError
from models.findings import Reading
from models.registry import Registry
from node.cli import app, bundles
from node.cli.printing import guarded
from node.domain import FindingRow, JobState
from node.network.standin import StandIn
from node.storage import jobs, queue

LABELS = ("Atelectasis", "Cardiomegaly", "Effusion", "Mass", "Nodule", "Pneumonia", "Pneumothorax")


@dataclass
class FakeReader:
    """A reader without a network; of every image it says what `said` holds."""

    registry: Registry
    bundle: Bundle
    said = models_made.reading()

    def verify(self) -> None: ...

    def read(self, items: Sequence[Any]) -> list[Reading]:
        return [self.said for _ in items]


def many(*scores: float) -> Reading:
    """An analysed image with these scores of the first labels, and 1 % of all others."""
    each = [models_made.reading(s).findings[0] for s in (*scores, *[0.01] * (len(LABELS) - len(scores)))]
    return Reading("analysed", findings=tuple(replace(f, label=n) for f, n in zip(each, LABELS, strict=True)))


def test_init_writes_settings_that_load(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    assert CliRunner().invoke(app, ["init", str(path)]).exit_code == 0
    assert Settings.load(path).peer
    again = CliRunner().invoke(app, ["init", str(path)])
    assert again.exit_code == 2


def test_init_takes_three_ae_titles(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    given = ["--ae-title", "AI", "--pacs", "PACS1@10.9.8.7:104", "--modality", "CT9@10.9.8.9"]
    assert CliRunner().invoke(app, ["init", str(path), *given]).exit_code == 0
    settings = Settings.load(path)
    pacs, modality = settings.peer
    assert settings.node.ae_title == "AI" and settings.listener.bind == "0.0.0.0"
    assert (pacs.ae_title, pacs.host, pacs.port) == ("PACS1", "10.9.8.7", 104)
    assert (modality.ae_title, modality.networks, modality.may) == ("CT9", ["10.9.8.9/32"], ["send"])
    assert "# Its own AE title: as the calling title" in path.read_text()


def test_init_for_one_machine_listens_to_nobody_else_and_invents_no_modality(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    assert CliRunner().invoke(app, ["init", str(path), "--pacs", "ORTHANC@127.0.0.1:4242"]).exit_code == 0
    settings = Settings.load(path)
    assert settings.listener.bind == "127.0.0.1"
    assert [p.ae_title for p in settings.peer] == ["ORTHANC"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--pacs", "PACS:104"], "--pacs PACS:104: write it as AE_TITLE@HOST:PORT, such as PACS@10.1.2.3:104"),
        (
            ["--modality", "X@1.2.3.4:5"],
            "--modality X@1.2.3.4:5: write it as AE_TITLE@ADDRESS, such as XRAY1@10.1.7.21",
        ),
        (["--pacs", "A TITLE THAT IS TOO LONG@10.1.2.3:104"], "peer[0].ae_title = 'A TITLE THAT IS TOO LONG'"),
    ],
)
def test_init_says_what_is_wrong_and_writes_nothing(tmp_path: Path, given: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["init", str(tmp_path / "new.toml"), *given])
    assert done.exit_code == 2
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


def test_init_into_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    path = tmp_path / "none" / "x.toml"
    done = CliRunner().invoke(app, ["init", str(path)])
    words = f"{path}: there is no folder {path.parent}; make it first"
    assert (done.exit_code, " ".join(done.stderr.split())) == (2, words)


def test_help_shows_brackets(tmp_path: Path) -> None:
    for command in (["peer", "test"], ["peer", "add"], ["pull"]):
        text = CliRunner().invoke(app, [*command, "--help"]).stdout
        assert "[[peer]]" in text or "[tls]" in text


def test_show_tells_the_story(routed: Any, overread: Any, tmp_path: Path) -> None:
    study = routed(make_image(tmp_path / "a.dcm"))
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


def test_route_explain_names_the_condition(routed: Any, overread: Any, tmp_path: Path) -> None:
    routed(make_image(tmp_path / "a.dcm", Modality="DX"))
    done = overread("route", "explain", "1")
    assert "Modality DX is not in CR" in done.stdout


def test_verify_is_quiet_when_all_is_well_and_says_what_is_not(house: House, overread: Any, tmp_path: Path) -> None:
    house.receive(make_image(tmp_path / "a.dcm"))
    assert overread("verify").exit_code == 0
    next(iter(house.spool.objects())).write_bytes(b"altered")
    done = overread("verify")
    assert (done.exit_code, "I1" in done.stdout) == (1, True)


def test_purge_only_says_what_it_would_do(house: House, routed: Any, overread: Any, tmp_path: Path) -> None:
    house.now = 1_600_000_000.0
    routed(make_image(tmp_path / "a.dcm", Modality="CT"))
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


def test_status_names_what_a_held_study_contradicts_and_not_the_values(contradicted: Any, overread: Any) -> None:
    contradicted()
    said = overread("status", "--json").stdout, overread("status").stdout
    assert json.loads(said[0])["latest"][0]["reason"] == "contradiction: PatientID, PatientName"
    for text in said:
        assert "PatientName" in text
        assert "P2" not in text and "Roe" not in text
    assert "'P1' was, 'P2' came" in overread("show", "1").stdout


def test_echo_and_send_reach_the_peer(overread: Any, pacs: StandIn, tmp_path: Path) -> None:
    assert "answered in" in overread("peer", "echo", "pacs").stdout
    make_image(tmp_path / "a.dcm")
    done = overread("send", tmp_path / "a.dcm", "--to", "pacs")
    assert (done.exit_code, "1 of 1 file stored" in done.stdout) == (0, True)
    assert len(pacs.received()) == 1


def test_echo_answers_programs_too(overread: Any, pacs: StandIn) -> None:
    said = json.loads(overread("peer", "echo", "pacs", "--json").stdout)
    assert (said["peer"], said["ae_title"], said["answered"]) == ("pacs", "PACS", True)
    assert 0 < said["seconds"] < 5
    pacs.stop()
    done = overread("peer", "echo", "pacs", "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, said["answered"]) == (1, False)
    assert said["error"]
    assert overread("peer", "echo", "pacs").exit_code == 1


def test_bundle_verify_answers_programs_too(overread: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(reader: Any) -> None:
        if reader.bundle.spec.name == "chest-findings":
            raise BundleError("replaying golden.npz differs")

    monkeypatch.setattr(bundles, "Reader", FakeReader)
    monkeypatch.setattr(FakeReader, "verify", verify)
    done = overread("bundle", "verify", "--json")
    said = {line["bundle"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.exit_code == 1
    assert said["body-part@1.0.0"] == {"bundle": "body-part@1.0.0", "ok": True, "error": ""}
    assert said["chest-findings@1.0.0"]["error"] == "replaying golden.npz differs"
    assert "ok    body-part@1.0.0" in overread("bundle", "verify").stdout


@pytest.mark.parametrize(
    ("reading", "line"),
    [
        (many(0.83, 0.45, 0.61), "Atelectasis 83.0 % present, Effusion 61.0 % present; nothing else of these 7 above"),
        (many(0.2), "nothing of these 7 above its threshold  (chest-findings@"),
        (many(0.2, 0.45), "nothing of these 7 above its threshold; undetermined: Cardiomegaly 45.0 %"),
        (models_made.reading(None, reason="It is a leg"), "It is a leg"),
    ],
)
def test_predict_names_what_is_present_and_never_says_normal(
    overread: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reading: Reading, line: str
) -> None:
    monkeypatch.setattr(bundles, "Reader", FakeReader)
    monkeypatch.setattr(FakeReader, "said", reading)
    done = overread("predict", make_image(tmp_path / "a.dcm"), "--bundle", "chest-findings")
    assert line in done.stdout
    assert "normal" not in done.stdout.replace("chest-abnormal", "")


def test_predict_tells_programs_every_score(overread: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundles, "Reader", FakeReader)
    monkeypatch.setattr(FakeReader, "said", many(0.83))
    done = overread("predict", make_image(tmp_path / "a.dcm"), "--bundle", "chest-findings", "--json")
    assert json.loads(done.stdout)["findings"] == dict.fromkeys(LABELS, "absent") | {"Atelectasis": "present"}


@pytest.mark.parametrize(
    ("status", "reason", "found", "line"),
    [
        ("refused", "It is a leg", [("", None, "")], "It is a leg"),
        (
            "analysed",
            "",
            [("Mass", 0.4, "PRESENT"), ("Effusion", 0.2, "UNDETERMINED"), ("Nodule", 0.1, "ABSENT")],
            "Mass 40.0 % present; nothing else of these 3 above its threshold; undetermined: Effusion 20.0 %",
        ),
    ],
)
def test_show_says_of_each_image_in_a_line_what_was_found(
    house: House, routed: Any, overread: Any, tmp_path: Path, status: str, reason: str, found: Any, line: str
) -> None:
    study = routed(make_image(tmp_path / "a.dcm"))
    (work,) = queue.claim(house.store, "w", 1, now=house.now, lease=60)
    image = work.instances[0].id
    rows = [FindingRow(image, status, reason, *row) for row in found]
    jobs.finish(house.store, work.job, JobState.DONE, rows, [], reason="", now=house.now)
    assert f"  image {image}  {status}  {line}\n" in overread("show", str(study.id)).stdout


def test_the_list_of_bundles_names_all_that_ship_with_their_gate(overread: Any) -> None:
    said = {line["bundle"]: line for line in map(json.loads, overread("bundle", "list", "--json").stdout.splitlines())}
    assert set(said) == {"body-part@1.0.0", "chest-abnormal@1.0.0", "chest-findings@1.0.0"}
    assert {said[name]["gate"] for name in ("chest-abnormal@1.0.0", "chest-findings@1.0.0")} == {"body-part"}
    assert "body-part@1.0.0" in overread("bundle", "list").stdout


def test_a_refused_file_is_reported_and_the_exit_code_says_so(overread: Any, pacs: StandIn, tmp_path: Path) -> None:
    pacs.answer = lambda _uid: 0xA700
    make_image(tmp_path / "a.dcm")
    done = overread("send", tmp_path / "a.dcm", "--to", "pacs", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["status"] == 0xA700


def test_an_unknown_peer_is_answered_with_those_that_are_there(overread: Any) -> None:
    done = overread("peer", "echo", "nobody")
    assert done.exit_code == 2
    assert "have: pacs, modality" in done.stderr


def test_a_peer_that_only_sends_cannot_be_sent_to(overread: Any) -> None:
    assert overread("peer", "echo", "modality").exit_code == 2


def test_serve_refuses_unknown_roles(overread: Any) -> None:
    done = overread("serve", "--roles", "receive,guess")
    assert done.exit_code == 2
    assert "guess" in done.stderr
