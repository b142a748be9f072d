"""A store with as many studies as a test asks for; no files behind the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from databases_made import place
from rows import NOW, ORIGIN, received

from node.domain import Matched, Study
from node.storage import instances, routing, studies
from node.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(place(tmp_path), tmp_path / "spool")
    made.spool.open()
    made.open()
    studies.begin_association(made, ORIGIN)
    yield made
    made.close()


@pytest.fixture
def routed(store: Store) -> Callable[..., Study]:
    """A study with one job, made by the same steps as in life."""

    def make(uid: str, *, deliver_to: Mapping[str, Sequence[str]] | None = None, now: float = NOW) -> Study:
        one = received(store, uid)
        study = instances.remember(store, one, ORIGIN, own_device_uid="", now=now).study
        study = studies.settle(store, study, "test", image_digest=uid, now=now) or study
        members = instances.of_study(store, study.id)
        matched = Matched("chest", tuple(i.id for i in members), "1 of 1 images match")
        return routing.route(
            store, study, [routing.Wanted(matched, "cardiomegaly@1.0.0", deliver_to or {"pacs": []})], now=now
        )

    return make
