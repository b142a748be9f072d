"""Flow: what waits where, what needs a person, and how it follows the node."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from house import House, make_image
from visitors import Person

from node.admin.flow import flow
from node.domain import JobState, Study
from node.storage import jobs, queue
from node.web.desk import Desk
from node.web.live import STREAMS, Parts, changes

Routed = Callable[[Path], Study]


def seen(house: House) -> dict[str, tuple[int, float | None, int]]:
    """Of each verb what waits, for how long, and what it finished in the last hour."""
    verbs = flow(house.settings, house.store, house.spool, now=house.now).verbs
    return {verb.name: (verb.waiting, verb.age, verb.pace.hour) for verb in verbs}


def test_a_study_is_seen_to_move_along(house: House, routed: Routed, tmp_path: Path) -> None:
    assert list(seen(house)) == ["receive", "settle", "route", "infer", "report", "deliver"]
    house.receive(make_image(tmp_path / "a.dcm"))
    house.now += 2
    assert seen(house)["receive"] == (1, 2.0, 1)
    routed(make_image(tmp_path / "b.dcm"))
    house.now += 30
    assert seen(house)["infer"][0] == 1
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    jobs.finish(house.store, work.job, JobState.REFUSED, [], [], reason="no", now=house.now)
    assert seen(house)["infer"] == (0, None, 1)


def test_what_was_finished_long_ago_is_not_counted(house: House, routed: Routed, tmp_path: Path) -> None:
    routed(make_image(tmp_path / "a.dcm"))
    house.now += 7200
    (receive,) = [v for v in flow(house.settings, house.store, house.spool, now=house.now).verbs if v.name == "receive"]
    assert (receive.pace.hour, receive.pace.day) == (0, 1)
    house.now += 86400
    assert seen(house)["receive"][2] == 0


def test_the_page_says_what_needs_a_person_and_what_to_type(
    house: House, viewer: Person, contradicted: Callable[[], Study]
) -> None:
    contradicted()
    text = viewer.get("/").text
    assert "<code>overread held list</code>" in text
    assert re.search(r'<li class="verb look">\s*<h2>settle</h2>', text)
    assert "the role web is not running" not in text  # nobody has it in a data folder without `serve`


def test_flow_holds_no_patient_data(house: House, viewer: Person, contradicted: Callable[[], Study]) -> None:
    study = contradicted()
    text = viewer.get("/").text
    for secret in ("P1", "P2", "Doe", "Roe", "19700101", study.study_instance_uid):
        assert secret not in text


def test_a_part_is_sent_when_it_changed_and_only_then(app: FastAPI, house: House, tmp_path: Path) -> None:
    desk: Desk = app.state.desk
    sent: dict[str, str] = {}
    (first,) = changes(app.state.live, desk, ["flow"], sent)
    kind, data = first.split("\n")[:2]
    assert (kind, json.loads(data.removeprefix("data: "))["id"]) == ("event: part", "flow")
    assert changes(app.state.live, desk, ["flow"], sent) == [": nothing new\n\n"]


def test_many_who_watch_a_part_cost_one_rendering(app: FastAPI) -> None:
    made = 0

    def render(_: Desk, row: int) -> str:
        nonlocal made
        made += 1
        return f"row {row}"

    parts = Parts()
    parts.register("study", render)
    assert {parts.html(app.state.desk, "study-7") for _ in range(20)} == {"row 7"}
    assert made == 1
    assert parts.html(app.state.desk, "study-8") == "row 8"
    assert [parts.known(name) for name in ("study-7", "study", "other", "study-x", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_streams_are_limited(app: FastAPI, viewer: Person) -> None:
    app.state.live.streams = STREAMS
    assert viewer.get("/events?part=flow").status_code == 503
