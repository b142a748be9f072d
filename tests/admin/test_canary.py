"""A canary goes the whole way through a node that runs, is compared with the first of its kind, and leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import ROUTE, RunningNode

from config.settings import Settings
from models.findings import Reader
from models.pixels import Frame, Header
from models.registry import Registry
from node.admin import alarms, canary
from node.admin.aviary import Aviary
from node.errors import RoleTaken
from node.network.standin import StandIn
from node.service import open_parts
from node.storage import canaries, roles, schema, studies
from node.storage.canaries import Ran

pytestmark = [pytest.mark.slow]

OTHER = """
[[route]]
name = "head"
when = {{ Modality = ["CT"], StationName = ["NOWHERE"] }}
unless = {{ Manufacturer = ["OVERREAD"] }}
bundle = "chest-findings"
mode = "shadow"
"""


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def node(tmp_path: Path, pacs: StandIn) -> Iterator[RunningNode]:
    made = RunningNode(tmp_path / "node", ("PACS", pacs.port), stub=True, route=ROUTE + OTHER)
    made.start()
    yield made
    made.stop()


def fly(node: RunningNode, steps: list[str] | None = None) -> dict[str, Ran]:
    say = (lambda step, _: steps.append(step)) if steps is not None else (lambda step, _: None)
    ran = canary.run(node.settings, node.parts.store, node.parts.spool, say=say)
    return {one.route: one for one in ran}


def left(node: RunningNode) -> list[str]:
    """What there is of studies, in rows and files."""
    tables = (schema.study, schema.instance, schema.job, schema.result, schema.delivery, schema.event)
    with node.parts.store.read() as connection:
        rows = [t.name for t in tables if connection.execute(t.select()).first() is not None]
    files = [str(p) for p in node.parts.spool.root.rglob("*") if p.is_file() and p.parent.name != "tmp"]
    return rows + files


def test_it_goes_through_every_room_and_leaves_nothing(node: RunningNode, pacs: StandIn) -> None:
    steps: list[str] = []
    ran = fly(node, steps)
    assert steps == ["receive", "settle", "infer", "deliver"]
    assert (ran["chest"].ok, ran["chest"].reason) == (True, "")
    assert set(ran["chest"].seconds) == set(steps)
    assert "head" not in ran, "no film can be drawn for this route: it is not judged"
    assert left(node) == []
    assert pacs.received() == []
    assert studies.counts(node.parts.store) == {}
    assert fly(node)["chest"].ok
    assert node.problems() == []
    assert "OVERREAD-TEST" not in node.log


def test_another_answer_than_the_first_time_is_an_alarm(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fly(node)["chest"].ok
    first = canaries.first_like
    rows = lambda found: [{**j, "rows": [[*r[:3], r[3] and r[3] + 0.1] for r in j["rows"]]} for j in found["jobs"]]  # noqa: E731
    monkeypatch.setattr(canaries, "first_like", lambda *a: (f := first(*a)) and {"jobs": rows(f)})
    ran = fly(node)["chest"]
    assert ran.ok is False
    assert ran.reason.startswith("infer: ") and ran.reason.endswith("the first time")
    wrong = [a for a in alarms_of(node) if a.key == "canary.chest"]
    assert [a.severity for a in wrong] == ["critical"]
    monkeypatch.undo()
    assert fly(node)["chest"].ok
    assert [a for a in alarms_of(node) if a.key == "canary.chest"] == []


def test_a_listener_that_does_not_run_is_said(node: RunningNode) -> None:
    node.stop()
    ran = fly(node)["chest"]
    assert (ran.ok, ran.reason) == (False, "receive: the listener does not run")


def test_whoever_was_killed_leaves_no_canary_for_ever(node: RunningNode) -> None:
    store = node.parts.store
    canaries.begin(store, ["chest"], "1.2.3", now=time.time())
    aviary = Aviary(store, node.parts.spool, settings=node.settings, stopped=lambda: False)
    assert aviary.step() == 0
    assert canaries.latest(store) == [], "it says nothing of the node"
    assert canaries.left_over(store) == []


def test_it_flies_when_its_time_has_come_and_not_before(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> None:
    now, flown = [0.0], []
    monkeypatch.setattr("node.admin.aviary.run", lambda *a, **k: flown.append(now[0]) or [])
    aviary = Aviary(
        node.parts.store, node.parts.spool, settings=node.settings, stopped=lambda: False, monotonic=lambda: now[0]
    )
    for now[0] in (0.0, 3599.0, 3600.0, 3601.0, 7200.0):
        aviary.step()
    assert flown == [3600.0, 7200.0]


def test_of_two_canaries_the_second_is_told_of_the_first(tmp_path: Path) -> None:
    """They share a destination: each would take the other's results to its own stand-in."""
    settings = Settings(node={"data_dir": tmp_path}, listener={"reserve_mb": 0})  # type: ignore[arg-type]
    now = [0.0]
    with open_parts(settings) as parts:
        store = parts.store
        aviary = Aviary(store, parts.spool, settings=settings, stopped=lambda: False, monotonic=lambda: now[0])
        with roles.own(tmp_path, [canary.LOCK]):
            canaries.begin(store, ["chest"], "1.2.3", now=time.time())
            with pytest.raises(RoleTaken, match=r"^another canary is under way: try again in a few minutes$"):
                canary.run(settings, store, parts.spool)
            now[0] = 3600.0
            assert aviary.step() == 0
            canaries.end(store, "1.2.3", "chest", ok=True, reason="", seconds={}, now=time.time())
        assert [ran.ok for ran in canaries.latest(store)] == [True], "nobody else ended it"


def test_the_film_is_small_and_grey() -> None:
    with Image.open(canary.FILM) as film:
        assert film.mode == "L" and max(film.size) <= 512
    assert canary.FILM.stat().st_size < 100_000


@pytest.mark.model
@pytest.mark.parametrize("name", ["chest-findings", "chest-abnormal"])
def test_the_gate_of_the_shipped_bundles_takes_the_film_for_a_chest(name: str) -> None:
    """Otherwise no canary would ever ask the network behind it."""
    registry = Registry()
    reader = Reader(registry, registry.find(name), device="cpu")
    with Image.open(canary.FILM) as film:
        pixels = np.asarray(film, np.float32) / 255
    (reading,) = reader.read([Frame(pixels, Header(modality="CR", body_part="CHEST", view_position="PA"))])
    assert reading.status == "analysed", reading.reason
    assert reading.gate["chest"] > 0.99
    assert reading.distance is not None and reading.distance < 0.5


def alarms_of(node: RunningNode) -> list[alarms.Alarm]:
    store = node.parts.store
    counts = studies.counts(store)
    return alarms.at_a_glance(node.settings, store, node.parts.spool, counts, now=time.time())
