"""One study that cannot be looked at keeps no other waiting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import House

from node import dispatch as dispatching
from node.dispatch import Dispatcher
from node.domain import StudyState
from node.pipeline import settle
from node.pipeline.route import Planned
from node.storage import studies

Make = Callable[..., Path]


def dispatcher(house: House) -> Dispatcher:
    plans = [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route]
    return Dispatcher(
        house.store, house.spool, settings=house.settings, bell=house.bell, plans=plans, clock=lambda: house.now
    )


def states(house: House) -> list[StudyState]:
    return [s.state for s in reversed(studies.latest(house.store, 10))]


def broken_for(study: int, real: Any) -> Any:
    def step(store: Any, one: Any, *rest: Any, **more: Any) -> Any:
        if one.id == study:
            raise RecursionError("a hostile header")
        return real(store, one, *rest, **more)

    return step


@pytest.mark.parametrize(
    ("module", "name", "stays"),
    [(settle, "settle", StudyState.RECEIVING), (dispatching, "route_study", StudyState.SETTLED)],
)
def test_a_study_that_breaks_a_step_waits_alone(
    house: House, image: Make, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, stays: StudyState
) -> None:
    for _ in range(3):
        house.receive(image())
        house.now += 0.01
    monkeypatch.setattr(module, name, broken_for(2, getattr(module, name)))
    house.now += 10
    dispatcher(house).advance()
    assert states(house) == [StudyState.ROUTED, stays, StudyState.ROUTED]
    monkeypatch.undo()
    dispatcher(house).advance()
    assert states(house) == [StudyState.ROUTED] * 3
