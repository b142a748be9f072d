"""How a test ends: what is said of what it leaves, here and there; and that closing it cleans up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from config.settings import Settings
from node.admin import inbound, trial
from node.admin.journey import Journey
from node.admin.probe import Probe
from node.admin.step import Rules, Step, waiting
from node.domain import Study, StudyState
from node.network.query import Sought
from node.storage import trials

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "may": ["send"], "networks": ["10.1.2.3"]}
STUDY = Study(7, "2.25.1", "x", "", "", StudyState.ROUTED, "", 1, "", "", 0.0, 0.0, None)


@pytest.fixture
def journey(monkeypatch: pytest.MonkeyPatch) -> Journey:
    monkeypatch.setattr(trial, "CLEAN_SECONDS", 0.0)
    settings = Settings(peer=[PACS])  # type: ignore[list-item]
    nothing: Any = None
    return Journey(Probe(settings, settings.peer[0]), nothing, nothing, nothing, 1, study_instance_uid="2.25.1")


def ends(journey: Journey, monkeypatch: pytest.MonkeyPatch, study: Study | None, *, removed: bool) -> Step:
    journey.study = study
    monkeypatch.setattr(Journey, "found", lambda self: study)
    monkeypatch.setattr(trials, "remove", lambda *_: removed)
    return trial._cleaned(journey)


def test_what_is_gone_here_and_what_is_left_there(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(journey, monkeypatch, STUDY, removed=True).text == "nothing of the test is left here"
    journey.tried = True
    there = "delete there patient OVERREAD-TEST, Study Instance UID 2.25.1"
    said = ends(journey, monkeypatch, STUDY, removed=True)
    assert said.text == f"nothing of the test is left here; at pacs something may be left: {there}"
    journey.stored = [Sought("2.25.1", "2.25.2", "2.25.3")]
    said = ends(journey, monkeypatch, None, removed=False)
    assert said.text == f"nothing of the test is left here; at pacs is left what was stored: {there}"


def test_what_is_still_worked_on_is_deleted_later(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ends(journey, monkeypatch, STUDY, removed=False)
    assert said.text == "the test study is still worked on; the node deletes it within two hours"


def test_what_somebody_else_sent_is_a_persons_to_decide(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ends(journey, monkeypatch, replace(STUDY, state=StudyState.HELD), removed=False)
    assert (said.verdict, said.text) == ("warn", "somebody else sent something into the test study")
    assert said.change == "decide what that is, here: `overread held list`"


def test_a_test_that_is_closed_cleans_up(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[str] = []

    def forever(*_: Any, **__: Any) -> Iterator[Step]:
        while True:
            yield waiting("inbound", "still")

    monkeypatch.setattr(inbound, "come_back", forever)
    monkeypatch.setattr(trial, "_clean", lambda travels: cleaned.append(travels.name))
    nothing: Any = None
    rules = Rules(withheld=lambda _: "")
    settings = journey.probe.settings
    steps = trial.run(settings, settings.peer[0], store=nothing, spool=nothing, bell=nothing, rules=rules)
    told = [next(steps) for _ in range(12)]
    assert {said.text for said in told[:8]} == {'pacs may only "send"'}
    steps.close()
    assert cleaned == ["pacs"]
