"""A patient's name comes out as it went in, in every result, whatever its character set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import SETTINGS, House
from names_made import FILES, IDS, attributes
from pydicom import dcmread
from test_infer import worker
from test_route import run

from node.pipeline import report
from node.storage import jobs

__all__ = ["worker"]


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    """One whose route makes every kind of result that there is."""
    return build(route=[SETTINGS["route"][0] | {"results": list(report.BUILDERS)}])


def test_the_fifteen_files_are_there() -> None:
    assert len(FILES) == 15


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_name_is_the_same_in_every_kind_of_result(
    house: House, image: Callable[..., Path], worker: Any, path: Path
) -> None:
    given = attributes(path)
    house.receive(image(**given))
    study = run(house)
    worker(house).run_batch()
    found = {result.kind: dcmread(result.path) for result in jobs.results(house.store, study.id)}
    assert set(found) == set(report.BUILDERS)
    for kind, ds in found.items():
        assert str(ds.PatientName) == str(given["PatientName"]), kind
        assert ds.PatientName.components == given["PatientName"].components, kind
        # Sets with code extensions are written again in UTF-8, which every reader knows
        assert isinstance(ds.get("SpecificCharacterSet", ""), str), kind


def test_a_japanese_name_keeps_its_three_component_groups(
    house: House, image: Callable[..., Path], worker: Any
) -> None:
    (path,) = [p for p in FILES if p.stem == "chrH31"]
    house.receive(image(**attributes(path)))
    study = run(house)
    worker(house).run_batch()
    for result in jobs.results(house.store, study.id):
        name = dcmread(result.path).PatientName
        assert (name.alphabetic, name.ideographic, name.phonetic) == ("Yamada^Tarou", "山田^太郎", "やまだ^たろう")


def test_names_of_one_study_in_two_character_sets_are_one_name(house: House, image: Callable[..., Path]) -> None:
    first = {"StudyInstanceUID": "1.2.3", "PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"}
    house.receive(image(**first), image(**(first | {"SpecificCharacterSet": "ISO_IR 192"})))
    assert run(house).state == "ROUTED"
