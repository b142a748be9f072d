"""Fixtures that build houses and images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import WANTED, place
from house import SETTINGS, House, make_image
from whole_house import Bundles, Reader, Whole, settings

from config.settings import Settings
from node.network.standin import StandIn
from node.pipeline import infer
from node.storage.bell import LocalBell
from node.storage.spool import Spool
from node.storage.store import Store


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., House]]:
    opened: list[House] = []

    def make(**changed: Any) -> House:
        root = tmp_path / f"house{len(opened)}"
        host = "" if WANTED == "sqlite" else "here"
        spool = Spool(root / "spool", host=host)
        spool.open()
        store = Store(place(root), spool.root, host=host)
        store.open()
        house = House(Settings(**(SETTINGS | changed)), store, spool, LocalBell(root / "run"), root)
        opened.append(house)
        return house

    yield make
    for house in opened:
        house.store.close()
        house.bell.close()


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    return build()


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., Path]:
    made: list[Path] = []

    def make(**attributes: Any) -> Path:
        made.append(make_image(tmp_path / f"image{len(made)}.dcm", **attributes))
        return made[-1]

    return make


@pytest.fixture
def build_house(build: Callable[..., House]) -> Callable[..., House]:
    """`build`, for tests that have a `build` of their own."""
    return build


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def whole(build: Callable[..., House], pacs: StandIn, monkeypatch: pytest.MonkeyPatch) -> Whole:
    """A house that goes the whole way, with a PACS that listens; two versions of its model are there."""
    monkeypatch.setattr(infer, "Reader", Reader)
    monkeypatch.setattr(Reader, "asked", 0)
    monkeypatch.setattr(Reader, "score", 0.83)
    said = settings(pacs.port)
    return Whole(
        build(**said.model_dump(include={"listener", "deliver", "peer", "route"})), pacs, Bundles("1.0.0", "2.0.0")
    )
