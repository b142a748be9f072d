"""A house that goes the whole way in this process: routed, read by a reader without a network, delivered to a PACS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import models_made
from databases_made import forget, where
from house import House

from config.settings import Settings
from models.bundle import Bundle, BundleError
from models.findings import Reading
from models.pixels import Frame, NotAnalysable
from node.domain import StudyState
from node.network.standin import StandIn
from node.pipeline.adopt import adopt
from node.pipeline.deliver import Courier
from node.pipeline.infer import Worker
from node.pipeline.recover import recover
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import deliveries, studies
from node.storage.store import Store


class Bundles:
    """A registry of bundles in memory, by name@version."""

    def __init__(self, *versions: str) -> None:
        self.there = {f"cardiomegaly@{v}": models_made.bundle(version=v, digest=v[0] * 64) for v in versions}

    def find(self, ref: str) -> Bundle:
        if ref not in self.there:
            raise BundleError(f"{ref}: no such bundle (have: {', '.join(self.there)})")
        return self.there[ref]


class Reader:
    """Says of every frame what `score` is, and counts the images that it was asked about."""

    device = "/CPU:0"
    score = 0.83
    asked = 0

    def __init__(self, _registry: Any, bundle: Any, **_: Any) -> None:
        self.bundle = bundle

    def verify(self) -> None:
        """Always as it was."""

    def read(self, items: Sequence[Frame | NotAnalysable]) -> list[Reading]:
        Reader.asked += len(items)
        return [
            Reading("failed", i.code, i.reason) if isinstance(i, NotAnalysable) else models_made.reading(Reader.score)
            for i in items
        ]


@dataclass
class Whole:
    """A house, its PACS, and the version of the model that its route names."""

    house: House
    pacs: StandIn
    bundles: Bundles
    version: str = "1.0.0"
    bundle: str = "cardiomegaly"
    couriers: dict[str, Courier] = field(default_factory=dict)

    def plans(self) -> list[Planned]:
        return [Planned(r, f"{self.bundle}@{self.version}") for r in self.house.settings.route]

    def route(self, *, after: float = 100.0) -> None:
        """Settle and route what is there."""
        self.house.now += after
        settle_due(self.house.store, self.house.settings, self.house.now)
        for study in studies.in_state(self.house.store, StudyState.SETTLED):
            route_study(self.house.store, study, self.plans(), self.house.now)

    def worker(self) -> Worker:
        house = self.house
        return Worker(
            house.store,
            house.spool,
            settings=house.settings,
            registry=self.bundles,  # type: ignore[arg-type]
            bell=house.bell,
            name="w",
            device="cpu",
            clock=lambda: house.now,
        )

    def infer(self) -> None:
        worker = self.worker()
        while worker.run_batch():
            continue

    def deliver(self) -> None:
        house = self.house
        for name in deliveries.peers(house.store):
            peer = house.settings.peer_named(name)
            assert peer is not None
            courier = Courier(house.store, peer, spool=house.spool, settings=house.settings, clock=lambda: house.now)
            while courier.deliver_due():
                continue
            courier.close()

    def work(self, *, after: float = 100.0) -> None:
        """Everything that is due, from the first step to the last."""
        self.route(after=after)
        self.infer()
        self.deliver()

    def lose_the_database(self) -> None:
        """The database is gone; what is left is the spool, and the receive role starts anew."""
        house = self.house
        forget(house.store)
        house.store = Store(where(house.store), house.spool.root)
        house.store.open()
        house.restart()
        self.start()

    def start(self) -> None:
        house = self.house
        adopt(house.store, settings=house.settings, now=house.now)
        recover(house.store, house.spool, own_device_uid=house.own, now=house.now)

    def held(self) -> dict[str, bytes]:
        """What the PACS has: the bytes of each object by SOP Instance UID."""
        return {path.stem: path.read_bytes() for path in self.pacs.received()}


def settings(port: int, **changed: Any) -> Settings:
    values: dict[str, Any] = {
        "listener": {"reserve_mb": 0},
        "deliver": {"timeout_seconds": 5},
        "peer": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "proof": "none"}],
        "route": [
            {"name": "chest", "when": {"Modality": ["CR", "DX"]}, "bundle": "cardiomegaly", "deliver_to": ["pacs"]}
        ],
    }
    return Settings(**(values | changed))


Build = Callable[..., House]
Image = Callable[..., Path]
