"""results export as a person types it: a row for everything, and a file that is whole or not there."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models_made
import pytest
from house import House, make_image
from typer.testing import Result
from whole_house import Bundles, Reader, Whole

from models.findings import Reading
from node.admin import export
from node.admin.export import COLUMNS, Ending
from node.domain import Pulled, State
from node.errors import NoSuchPull
from node.network.standin import StandIn
from node.pipeline import infer, recall
from node.storage import jobs, pulled, pulls, queue, recalls, studies

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]


@pytest.fixture
def whole(house: House, pacs: StandIn, monkeypatch: pytest.MonkeyPatch) -> Whole:
    """A node with a model that is only here in memory."""
    monkeypatch.setattr(infer, "Reader", Reader)
    made = Whole(house, pacs, Bundles("1.0.0", "2.0.0"))
    monkeypatch.setattr("node.pipeline.plan.registry", lambda _settings: made.bundles)
    monkeypatch.setattr("node.pipeline.plan.plan", lambda _settings: made.plans())
    return made


def table(said: Result) -> list[dict[str, Any]]:
    assert said.exit_code == 0, said.output
    return [json.loads(line) for line in said.stdout.splitlines()]


def test_a_row_says_what_a_model_found_of_a_study(whole: Whole, overread: Run, tmp_path: Path) -> None:
    whole.house.receive(make_image(tmp_path / "a.dcm", AccessionNumber="ACC7"))
    whole.work()
    (row,) = table(overread("results", "export", "--jsonl", "-"))
    assert list(row) == list(COLUMNS)
    assert row["accession_number"] == "ACC7" and row["status"] == "ANALYSED" and row["presence"] == "PRESENT"
    assert (row["label"], row["score"], row["concept"]) == ("Cardiomegaly", 0.83, "8186001^SCT^Cardiomegaly")
    assert (row["threshold"], row["lower"], row["operating_point"]) == (0.5, 0.4, "Youden")
    assert (row["calibrated"], row["mode"], row["revision"]) == (True, "live", 1)
    assert (row["images"], row["images_analysed"], row["bundle"]) == (1, 1, "cardiomegaly@1.0.0")
    assert row["model_digest"] == "1" * 64
    assert row["received_at"] == "2027-01-15T08:00:00.000Z"
    assert row["settled_at"] == row["finished_at"] == "2027-01-15T08:01:40.000Z"


def test_a_study_has_the_highest_score_of_its_images_and_images_have_their_own(
    whole: Whole, overread: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((0.2, 0.7, None))
    monkeypatch.setattr(
        Reader,
        "read",
        lambda _self, items: [models_made.reading(next(scores), reason="The gate says no chest") for _ in items],
    )
    same = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    files = [make_image(tmp_path / f"{n}.dcm", SOPInstanceUID=f"1.2.3.1.{n}", **same) for n in (1, 2, 3)]
    whole.house.receive(*files)
    whole.work()
    (row,) = table(overread("results", "export", "--jsonl", "-"))
    assert (row["score"], row["sop_instance_uid"], row["presence"]) == (0.7, "1.2.3.1.2", "PRESENT")
    assert (row["images"], row["images_analysed"], row["status"]) == (3, 2, "ANALYSED")
    each = table(overread("results", "export", "--jsonl", "-", "--images"))
    assert [(r["sop_instance_uid"], r["status"], r["score"]) for r in each] == [
        ("1.2.3.1.1", "ANALYSED", 0.2),
        ("1.2.3.1.2", "ANALYSED", 0.7),
        ("1.2.3.1.3", "REFUSED", None),
    ]
    assert each[2]["reason"] == "The gate says no chest" and each[2]["label"] is None


def test_a_patient_is_named_only_when_that_is_asked_for(whole: Whole, overread: Run, tmp_path: Path) -> None:
    whole.house.receive(make_image(tmp_path / "a.dcm", PatientID="CANARY-1", StudyDate="20260102"))
    whole.house.receive(make_image(tmp_path / "b.dcm", PatientID="CANARY-1", StudyDate="20260103"))
    whole.house.receive(make_image(tmp_path / "c.dcm", PatientID="CANARY-2"))
    nobody = {"PatientID": "", "PatientName": "", "PatientBirthDate": ""}
    whole.house.receive(make_image(tmp_path / "d.dcm", **nobody))
    whole.work()
    said = overread("results", "export", "--jsonl", "-", "--images")
    assert "CANARY" not in said.output and "Doe" not in said.output and "2026010" not in said.output
    one, again, other, unknown = [row["patient"] for row in table(said)]
    assert one == again != other and unknown == "" and re.fullmatch("[0-9a-f]{12}", one)
    named = table(overread("results", "export", "--jsonl", "-", "--identified"))
    assert [row["patient"] for row in named] == ["CANARY-1", "CANARY-1", "CANARY-2", ""]
    assert [row["study_date"] for row in named[:2]] == ["2026-01-02", "2026-01-03"]


def test_silence_is_a_row_with_its_reason(
    whole: Whole, overread: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = whole.house
    monkeypatch.setattr(
        Reader,
        "read",
        lambda _self, items: [Reading("refused", "gate", "The gate says hand 99 %") for _ in items],
    )
    house.receive(make_image(tmp_path / "refused.dcm", AccessionNumber="REFUSED"))
    whole.work()
    house.receive(make_image(tmp_path / "mr.dcm", Modality="MR", AccessionNumber="UNROUTED"))
    house.receive(make_image(tmp_path / "dead.dcm", AccessionNumber="DEAD"))
    whole.route()
    (work,) = queue.claim(house.store, "w", 9, now=house.now, lease=60)
    jobs.fail(house.store, work.job, "the disk is on fire", attempts=1, now=house.now, retry_after=1)
    house.receive(make_image(tmp_path / "queued.dcm", AccessionNumber="QUEUED"))
    whole.route()
    house.receive(make_image(tmp_path / "new.dcm", AccessionNumber="NEW"))
    found = {row["accession_number"]: row for row in table(overread("results", "export", "--jsonl", "-"))}
    told = {name: (row["status"], row["reason"]) for name, row in found.items()}
    assert told == {
        "REFUSED": ("REFUSED", "The gate says hand 99 %"),
        "UNROUTED": ("UNROUTED", "chest: Modality MR is not in CR"),
        "DEAD": ("DEAD", "the disk is on fire"),
        "QUEUED": ("WAITING", "the job is QUEUED"),
        "NEW": ("WAITING", "the study is RECEIVING"),
    }
    assert not any(row["score"] for row in found.values())
    assert len({row["study"] for row in found.values()}) == 5


def test_a_held_study_tells_no_scores_and_no_names(
    whole: Whole, overread: Run, contradicted: Callable[[], Any]
) -> None:
    contradicted()
    whole.work()
    (row,) = table(overread("results", "export", "--jsonl", "-"))
    assert (row["status"], row["score"], row["label"]) == ("HELD", None, None)
    assert "Roe" not in json.dumps(row) and "held list" in row["reason"]


def test_the_last_revision_counts_unless_all_are_asked_for(whole: Whole, overread: Run, tmp_path: Path) -> None:
    same = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    whole.house.receive(make_image(tmp_path / "a.dcm", **same))
    whole.work()
    whole.version = "2.0.0"
    whole.house.receive(make_image(tmp_path / "b.dcm", **same))
    whole.work()
    (row,) = table(overread("results", "export", "--jsonl", "-"))
    assert (row["revision"], row["bundle"], row["images"]) == (2, "cardiomegaly@2.0.0", 2)
    both = table(overread("results", "export", "--jsonl", "-", "--all-revisions"))
    assert [r["bundle"] for r in both] == ["cardiomegaly@1.0.0", "cardiomegaly@2.0.0"]
    old = table(overread("results", "export", "--jsonl", "-", "--bundle", "cardiomegaly@1.0.0"))
    assert old == []  # it was replaced
    one = ("results", "export", "--jsonl", "-", "--all-revisions", "--bundle", "cardiomegaly@1.0.0")
    assert [r["revision"] for r in table(overread(*one))] == [1]


def test_withdrawn_results_tell_no_scores(whole: Whole, overread: Run, tmp_path: Path) -> None:
    house = whole.house
    whole.house.receive(make_image(tmp_path / "a.dcm"))
    whole.work()
    found = recalls.of_bundle(house.store, "cardiomegaly@1.0.0", since=0, until=1e12)
    recall.withdraw(house.store, house.spool, found, settings=house.settings, now=house.now)
    (row,) = table(overread("results", "export", "--jsonl", "-"))
    assert (row["status"], row["score"]) == ("WITHDRAWN", None)


def test_a_route_says_of_each_study_why_it_did_not_take_it(whole: Whole, overread: Run, tmp_path: Path) -> None:
    whole.house.receive(make_image(tmp_path / "a.dcm"))
    whole.house.receive(make_image(tmp_path / "b.dcm", Modality="MR"))
    whole.work()
    taken, left = table(overread("results", "export", "--jsonl", "-", "--route", "chest"))
    assert (taken["status"], left["status"], left["reason"]) == ("ANALYSED", "UNROUTED", "Modality MR is not in CR")
    assert left["route"] == "chest"
    with (tmp_path / "overread.toml").open("a") as file:
        file.write('[[route]]\nname = "new"\nwhen = {}\nbundle = "chest-findings"\nmode = "shadow"\n')
    strange = table(overread("results", "export", "--jsonl", "-", "--route", "new"))
    assert {row["reason"] for row in strange} == {
        "this route was never asked about it",
        "chest: Modality MR is not in CR",
    }


def test_a_pull_chooses_what_it_asked_for(whole: Whole, overread: Run, tmp_path: Path) -> None:
    house = whole.house
    uids = [f"1.2.{n}" for n in range(4)]
    for n, uid in enumerate(uids[:3]):
        house.receive(make_image(tmp_path / f"{n}.dcm", StudyInstanceUID=uid))
    whole.work()
    made = pulls.begin(house.store, "pacs", {"any": []}, {}, route="", mode="", now=house.now)
    # one was brought, one was here already, one has not come yet
    pulls.found(house.store, made.id, dict.fromkeys([uids[1], uids[2], uids[3]], 1), missing=[], now=house.now)
    studies_of = [
        row["study_instance_uid"] for row in table(overread("results", "export", "--jsonl", "-", "--pull", "1"))
    ]
    assert studies_of == [uids[1], uids[2]]
    with house.store.write() as connection:
        # all that is known of a pull after a rebuild
        pulled.begin(connection, studies.find(house.store, uids[0]).id, Pulled(7))
    (row,) = table(overread("results", "export", "--jsonl", "-", "--pull", "7"))
    assert row["study_instance_uid"] == uids[0]
    with pytest.raises(NoSuchPull, match=r"no pull #9 \(the newest: #1\)"):
        overread("results", "export", "--jsonl", "-", "--pull", "9")


def test_days_choose_by_the_last_image(whole: Whole, overread: Run, tmp_path: Path) -> None:
    whole.house.receive(make_image(tmp_path / "a.dcm", AccessionNumber="FIRST"))
    whole.house.now += 3 * 86400
    whole.house.receive(make_image(tmp_path / "b.dcm", AccessionNumber="SECOND"))

    def chosen(*options: str) -> list[str]:
        return [r["accession_number"] for r in table(overread("results", "export", "--jsonl", "-", *options))]

    assert chosen("--since", "2027-01-17") == ["SECOND"]
    assert chosen("--until", "2027-01-16") == ["FIRST"]
    assert chosen("--since", "2027-01-10", "--until", "2027-01-30") == ["FIRST", "SECOND"]


def test_a_file_is_whole_and_its_owner_s_alone(
    whole: Whole, overread: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole.house.receive(make_image(tmp_path / "a.dcm"))
    whole.work()
    target = tmp_path / "out.csv"
    said = overread("results", "export", "--csv", str(target))
    assert said.exit_code == 0 and "1 row written to" in said.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    (row,) = csv.DictReader(io.StringIO(target.read_text()))
    assert (row["score"], row["calibrated"], row["reason"]) == ("0.83", "1", "")
    before = target.read_bytes()

    def fails(_value: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_cell", fails)
    broken = overread("results", "export", "--csv", str(target))
    assert broken.exit_code == 2 and "cannot be written: No space left on device" in broken.stderr
    assert target.read_bytes() == before and not list(tmp_path.glob("*.part"))


def test_a_spreadsheet_runs_nothing_that_an_image_says(whole: Whole, overread: Run, tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", 'a,"b"', "plain"]
    for n, text in enumerate(texts):
        whole.house.receive(make_image(tmp_path / f"{n}.dcm", AccessionNumber=text))
    said = overread("results", "export", "--csv", "-")
    cells = [row["accession_number"] for row in csv.DictReader(io.StringIO(said.stdout))]
    assert cells == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", 'a,"b"', "plain"]
    assert [row["accession_number"] for row in table(overread("results", "export", "--jsonl", "-"))] == texts


def test_a_model_that_is_not_here_any_more_leaves_its_columns_empty(
    whole: Whole, overread: Run, tmp_path: Path
) -> None:
    whole.house.receive(make_image(tmp_path / "a.dcm"))
    whole.work()
    whole.bundles.there["cardiomegaly@1.0.0"] = models_made.bundle(version="1.0.0", digest="f" * 64)
    (row,) = table(overread("results", "export", "--jsonl", "-"))
    assert (row["score"], row["presence"]) == (0.83, "PRESENT")
    assert row["threshold"] is None and row["concept"] is None and row["calibrated"] is None


def test_a_route_that_never_was_is_refused(overread: Run, house: House, tmp_path: Path) -> None:
    done = overread("results", "export", "--csv", tmp_path / "t.csv", "--route", "chst")
    words = "--route chst: no such route, in the settings or of a study (have: chest)"
    assert (done.exit_code, done.stderr.strip()) == (2, words)
    assert not (tmp_path / "t.csv").exists()


def test_a_route_that_was_once_can_still_be_exported(whole: Whole, overread: Run, tmp_path: Path) -> None:
    whole.house.receive(make_image(tmp_path / "a.dcm"))
    whole.work()
    file = tmp_path / "overread.toml"
    file.write_text(file.read_text().replace('name = "chest"', 'name = "other"'))
    (row,) = table(overread("results", "export", "--jsonl", "-", "--route", "chest"))
    assert (row["route"], row["status"]) == ("chest", "ANALYSED")


def test_one_form_is_needed(overread: Run, house: House) -> None:
    said = overread("results", "export")
    assert said.exit_code == 2 and "Give one of --csv FILE and --jsonl FILE" in said.stderr
    assert overread("results", "export", "--csv", "a", "--jsonl", "b").exit_code == 2


def test_the_readme_tells_every_column_and_every_status() -> None:
    text = (ROOT / "training" / "README.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    states: list[State] = list(Ending)
    assert told == {**COLUMNS, **{state.value: state.sentence for state in states}}
