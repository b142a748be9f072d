from collections import Counter
from pathlib import Path

import pytest

from training import sources
from training.recipes import cardiomegaly, chest_abdomen


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(sources.SourceError, match="hello_world"):
        sources.hello_world(tmp_path, ("chest", "abdomen"))
    with pytest.raises(sources.SourceError, match="Hand"):
        sources.tiles(tmp_path, "Hand")


@pytest.mark.data
def test_hello_world_has_33_chest_and_32_abdomen_films(data_dir: Path) -> None:
    items = sources.hello_world(data_dir, ("chest", "abdomen"))
    assert Counter(i.targets for i in items) == {(1, 0): 33, (0, 1): 32}
    assert all(i.path.is_file() and not i.patient for i in items)


@pytest.mark.data
def test_cardiomegaly_is_set_against_films_without_any_finding(data_dir: Path) -> None:
    items = cardiomegaly.manifest(data_dir).items
    counted = Counter((i.targets, i.evaluate) for i in items)
    assert counted[(1,), True] == 117 and counted[(0,), True] == 807
    assert counted[(0,), False] == 0, "films with other findings are no negatives"
    assert all(len(i.patient) == 8 and i.patient.isdigit() for i in items)
    assert len({i.path for i in items}) == len(items), "a film with several boxes is one item"


@pytest.mark.data
def test_the_gate_sees_nih_films_as_chest(data_dir: Path) -> None:
    manifest = chest_abdomen.manifest(data_dir)
    assert Counter(i.source for i in manifest.items) == {"hello_world": 65, "nih_adleberg": 1510}
    assert manifest.targets.sum(axis=0).tolist() == [1543, 32]
