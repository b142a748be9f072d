"""Fixtures that build houses and images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import SETTINGS, House, make_image

from config.settings import Settings
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., House]]:
    opened: list[House] = []

    def make(**changed: Any) -> House:
        root = tmp_path / f"house{len(opened)}"
        spool = Spool(root / "spool")
        spool.open()
        store = Store(root / "overread.db", spool.root)
        store.open()
        house = House(Settings(**(SETTINGS | changed)), store, spool, Bell(root / "run"), root)
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
