"""recall and replay as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import House, make_image
from pydicom import dcmread
from whole_house import Bundles, Reader, Whole

from node.failpoint import EXIT_CODE, VARIABLE
from node.network.standin import StandIn
from node.pipeline import infer
from node.pipeline.plan import registry
from node.storage import jobs

OLD = "cardiomegaly@1.0.0"


@pytest.fixture
def whole(house: House, pacs: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Whole:
    """A study with delivered results of a model that is only here in memory."""
    monkeypatch.setattr(infer, "Reader", Reader)
    made = Whole(house, pacs, Bundles("1.0.0", "2.0.0"))
    monkeypatch.setattr("node.pipeline.plan.registry", lambda _settings: made.bundles)
    monkeypatch.setattr("node.pipeline.plan.plan", lambda _settings: made.plans())
    house.receive(make_image(tmp_path / "a.dcm"))
    made.work()
    return made


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_status_says_how_long_each_class_waited(
    whole: Whole, overread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: whole.house.now + 60)
    said = json.loads(overread("status", "--json").stdout)["turnaround"]
    waited = {"median": 100.0, "p95": 100.0}
    assert said == {"ROUTINE": {"priority": "ROUTINE", "studies": 1, "stored": waited, "sent": waited}}
    assert "100.0, 100.0" in overread("status").stdout


def test_recall_lists_and_does_nothing(whole: Whole, overread: Callable[..., Any]) -> None:
    done = overread("recall", "--bundle", OLD)
    assert done.exit_code == 0
    assert "pacs SENT" in done.stdout and "Nothing was done." in done.stdout
    *results, total = lines(overread("recall", "--bundle", OLD, "--json").stdout)
    assert [(r["kind"], r["state"], r["went_to"]) for r in results] == [
        ("sc", "current", {"pacs": "SENT"}),
        ("sr", "current", {"pacs": "SENT"}),
    ]
    assert total == {"results": 2, "studies": 1, "done": False}


def test_a_table_that_goes_into_a_pipe_is_not_cut(whole: Whole, overread: Callable[..., Any], tmp_path: Path) -> None:
    same = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    whole.house.receive(make_image(tmp_path / "b.dcm", Modality="MR", **same))
    whole.route()
    done = overread("recall", "--bundle", OLD)
    assert "2 results of 1 study\n" in done.stdout
    head, first, *_ = done.stdout.splitlines()
    assert len(head) > 80 and "pacs SENT" in first and "current" in first
    reasons = [line for line in overread("status").stdout.splitlines() if "UNROUTED" in line]
    assert any("chest: Modality MR is not in CR" in line for line in reasons)


def test_recall_says_what_it_would_do_until_it_is_told_yes(whole: Whole, overread: Callable[..., Any]) -> None:
    said = overread("recall", "--bundle", OLD, "--withdraw")
    assert "would be withdrawn: revision 1 of chest: a withdrawal goes to pacs" in said.stdout
    assert len(jobs.results(whole.house.store, 1)) == 2
    said = overread("recall", "--bundle", OLD, "--withdraw", "--yes")
    assert (said.exit_code, "study 1 withdrawn: " in said.stdout) == (0, True)
    assert [r.kind for r in jobs.results(whole.house.store, 1)] == ["sc", "sr", "withdrawal"]
    again = lines(overread("recall", "--bundle", OLD, "--withdraw", "--yes", "--json").stdout)
    assert again[-2:] == [
        {"study": 1, "withdrawn": False, "text": "withdrawn already"},
        {"results": 3, "studies": 1, "done": True, "withdrawn": 0},
    ]
    shown = overread("show", "1").stdout
    assert shown.count("never sent again") == 2
    assert json.loads(overread("show", "1", "--json").stdout)["results"][0]["withdrawn_at"]


@pytest.mark.fault
@pytest.mark.parametrize("place", ["recall.stopped", "recall.written", "recall.end"])
def test_a_recall_that_is_killed_is_completed_by_the_next_one(
    whole: Whole, overread: Callable[..., Any], file: Path, tmp_path: Path, place: str
) -> None:
    failpoint = tmp_path / "failpoint"
    failpoint.write_text(place)
    command = [
        sys.executable,
        "-m",
        "node.cli",
        "recall",
        "--bundle",
        OLD,
        "--withdraw",
        "--yes",
        "--config",
        str(file),
    ]
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run(command, cwd=root, env=os.environ | {VARIABLE: str(failpoint)}, check=False, timeout=60)
    assert killed.returncode == EXIT_CODE
    assert all(r.withdrawn_at for r in jobs.results(whole.house.store, 1) if r.kind != "withdrawal")
    assert overread("recall", "--bundle", OLD, "--withdraw", "--yes").exit_code == 0
    assert [r.kind for r in jobs.results(whole.house.store, 1)] == ["sc", "sr", "withdrawal"]
    whole.deliver()
    assert [dcmread(p).Modality for p in whole.pacs.received()].count("KO") == 1
    assert overread("verify").exit_code == 0


def test_recall_supersedes(whole: Whole, overread: Callable[..., Any]) -> None:
    whole.version = "2.0.0"
    said = overread("recall", "--bundle", OLD, "--supersede", "--yes")
    assert "study 1 superseded: its routes are asked anew" in said.stdout
    whole.work()
    assert "superseded" in overread("recall", "--bundle", OLD).stdout
    assert len(jobs.of_study(whole.house.store, 1)) == 2


def test_recall_needs_something_to_say_yes_to_and_a_day_that_is_one(overread: Callable[..., Any]) -> None:
    done = overread("recall", "--bundle", OLD, "--yes")
    assert (done.exit_code, "--yes to what?" in done.stderr) == (2, True)
    assert overread("recall", "--bundle", OLD, "--since", "yesterday").exit_code == 2


def test_recall_of_other_days_finds_nothing(whole: Whole, overread: Callable[..., Any]) -> None:
    until = overread("recall", "--bundle", OLD, "--until", "2020-01-01")
    assert (until.exit_code, "0 results of 0 studies" in until.stdout) == (0, True)
    assert "2 results" in overread("recall", "--bundle", OLD, "--since", "2020-01-01", "--until", "2100-01-01").stdout


def test_replay_says_that_it_is_identical(whole: Whole, overread: Callable[..., Any]) -> None:
    uid = jobs.results(whole.house.store, 1)[1].sop_instance_uid
    done = overread("replay", uid)
    assert (done.exit_code, done.stdout.startswith("identical: ")) == (0, True)
    said = json.loads(overread("replay", uid, "--json").stdout)
    assert (said["verdict"], said["same_bytes"], said["scores"][0]["then"]) == ("identical", True, 0.83)
    assert said["then"] == said["now"]


def test_replay_shows_the_figures_where_they_differ(
    whole: Whole, overread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "score", 0.7)
    done = overread("replay", jobs.results(whole.house.store, 1)[1].sop_instance_uid)
    assert (done.exit_code, done.stdout.startswith("different: ")) == (1, True)
    assert "83.000 % PRESENT" in done.stdout and "-13.000" in done.stdout
    assert "numpy" in done.stdout and "/CPU:0" in done.stdout


def test_replay_says_why_it_cannot(whole: Whole, overread: Callable[..., Any]) -> None:
    uid = jobs.results(whole.house.store, 1)[1].sop_instance_uid
    next(iter(whole.house.spool.objects())).unlink()
    done = overread("replay", uid)
    assert (done.exit_code, done.stderr) == (1, "cannot be replayed: input lost\n")
    said = json.loads(overread("replay", uid, "--json").stdout)
    assert said == {"verdict": "impossible", "reason": "input lost"}


@pytest.mark.model
@pytest.mark.slow
def test_a_real_model_gives_the_same_bytes_again(
    house: House, pacs: StandIn, overread: Callable[..., Any], pydicom_file: Callable[[str], Path]
) -> None:
    made = Whole(house, pacs, registry(house.settings), bundle="chest-findings")  # type: ignore[arg-type]
    house.receive(pydicom_file("RG1_UNCR.dcm"))
    made.work()
    results = jobs.results(house.store, 1)
    assert [r.kind for r in results] == ["sc", "sr"]
    for result in results:
        done = overread("replay", result.sop_instance_uid)
        assert (done.exit_code, done.stdout.startswith("identical: 8 lines")) == (0, True), done.stdout
