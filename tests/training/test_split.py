from pathlib import Path

import numpy as np
import pytest

from training.manifest import Item, Manifest
from training.split import by_group, folds


def manifest(patients: int = 60) -> Manifest:
    """One to four films of each patient; every third patient is sick; some films are only trained on."""
    rng = np.random.default_rng(0)
    items = [
        Item(Path(f"{p}-{k}.png"), (int(p % 3 == 0),), "s", f"{p:03}", evaluate=k < 3)
        for p in range(patients)
        for k in range(rng.integers(1, 5))
    ]
    return Manifest(("x",), tuple(items))


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_on_both_sides(seed: int) -> None:
    found = manifest()
    groups, split = found.groups, by_group(found, seed=seed)
    for a, b in [(split.train, split.test), *split.parts]:
        assert not set(groups[a]) & set(groups[b])


def test_every_evaluated_film_is_held_out_once_and_the_others_never() -> None:
    found = manifest()
    out = np.concatenate([held for _, held in folds(found, 5, seed=0)])
    assert sorted(out) == np.flatnonzero(found.evaluated).tolist()


def test_the_inner_folds_never_touch_the_test_patients() -> None:
    found = manifest()
    split = by_group(found, seed=0)
    test = set(found.groups[split.test])
    for train, held in split.parts:
        assert not test & set(found.groups[train]) and not test & set(found.groups[held])
    inner = np.concatenate([held for _, held in split.parts])
    assert set(inner) == set(split.train[found.evaluated[split.train]])


def test_films_only_trained_on_are_trained_on() -> None:
    found = manifest()
    split = by_group(found, seed=0)
    assert not found.evaluated[split.train].all() and found.evaluated[split.test].all()


def test_the_same_seed_splits_the_same_way() -> None:
    a, b, c = (by_group(manifest(), seed=s) for s in (1, 1, 2))
    assert np.array_equal(a.test, b.test) and not np.array_equal(a.test, c.test)
