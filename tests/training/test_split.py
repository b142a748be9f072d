from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.errors import ManifestError
from training.manifest import NO_FINDING, Item, Manifest, findings
from training.split import folds, plan

LABEL = "Mass"


def manifest(patients: int = 60, *, source: str = "s") -> Manifest:
    """One to four films of each patient; every third patient is sick; each fourth film is only trained on."""
    rng = np.random.default_rng(0)
    items = [
        Item(
            Path(f"{p}-{k}.png"),
            source,
            frozenset({LABEL if p % 3 == 0 else NO_FINDING}) if k < 3 else frozenset(),
            frozenset({LABEL}) if k == 3 and p % 3 == 0 else frozenset(),
            f"{p:03}",
        )
        for p in range(patients)
        for k in range(rng.integers(1, 5))
    ]
    return findings((LABEL,), items)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_patient_is_on_two_sides(seed: int, count: int) -> None:
    found = manifest()
    for fold in plan(found, count, seed=seed):
        sides = [fold.train, fold.held, *([] if fold.validation is None else [fold.validation])]
        groups = [set(found.groups[side]) for side in sides]
        assert sum(map(len, groups)) == len(set.union(*groups)) and all(groups)


def test_every_evaluated_film_is_held_out_once_and_the_others_never() -> None:
    found = manifest()
    out = np.concatenate([fold.held for fold in plan(found, 5, seed=0)])
    assert sorted(out) == np.flatnonzero(found.evaluated).tolist()


def test_every_fold_has_its_share_of_the_sick() -> None:
    found = manifest()
    for fold in plan(found, 5, seed=0):
        assert abs(found.targets[fold.held].mean() - found.targets[found.evaluated].mean()) < 0.1


def test_films_only_trained_on_are_trained_on_unless_their_patient_is_held_out() -> None:
    found = manifest()
    for fold in plan(found, 5, seed=0):
        away = set(found.groups[fold.held])
        weak = [i for i in np.flatnonzero(~found.evaluated) if found.groups[i] not in away]
        assert weak and set(weak) <= set(fold.train)


def test_one_split_has_a_validation_part_and_leaves_nobody_out() -> None:
    found = manifest()
    (fold,) = plan(found, 1, seed=0)
    assert fold.validation is not None
    assert set(found.groups[fold.train]) | set(found.groups[fold.held]) | set(found.groups[fold.validation]) == set(
        found.groups
    )
    assert found.evaluated[fold.validation].all() and found.evaluated[fold.held].all()
    assert len(fold.train) > len(fold.held) > len(fold.validation)


def test_the_same_seed_splits_the_same_way() -> None:
    a, b, c = (plan(manifest(), 1, seed=s)[0] for s in (1, 1, 2))
    assert np.array_equal(a.held, b.held) and not np.array_equal(a.held, c.held)


def nih(*, shared: bool = False) -> Manifest:
    """Every fifth patient is in NIH's own test list; with `shared` one film of another patient too."""
    found = manifest(source="nih")
    parts = ["test" if int(i.patient) % 5 == 0 else "train" for i in found.items]
    parts[parts.index("train")] = "test" if shared else "train"
    return replace(found, items=tuple(replace(i, part=p) for i, p in zip(found.items, parts, strict=True)))


def test_the_publishers_own_test_part_is_kept() -> None:
    found = nih()
    (fold,) = plan(found, 1, seed=0)
    assert [found.items[i].part for i in fold.held] == ["test"] * len(fold.held)
    own = [i for i, item in enumerate(found.items) if item.part == "test" and found.evaluated[i]]
    assert own == fold.held.tolist()
    assert fold.validation is not None
    assert all(found.items[i].part == "train" for i in [*fold.train, *fold.validation])


def test_a_patient_in_the_publishers_test_and_training_part_is_an_error() -> None:
    found = nih(shared=True)
    with pytest.raises(ManifestError, match="shares 1 patients with its training part"):
        plan(found, 1, seed=0)


def test_a_film_that_looks_like_one_of_the_publishers_test_part_is_in_no_part() -> None:
    found = nih()
    groups = found.groups.tolist()
    test = next(i for i, item in enumerate(found.items) if item.part == "test")
    train = next(i for i, item in enumerate(found.items) if item.part == "train")
    joined = replace(found, joined=tuple(groups[test] if g == groups[train] else g for g in groups))
    (fold,) = plan(joined, 1, seed=0)
    assert fold.validation is not None
    used = {*fold.train, *fold.validation, *fold.held}
    assert not used & {i for i, g in enumerate(groups) if g == groups[train]}
    assert test in fold.held


def test_too_few_patients_are_an_error() -> None:
    with pytest.raises(ManifestError, match="4 patients or single films are too few for 5 folds"):
        plan(manifest(4), 5, seed=0)


@pytest.mark.parametrize("odd", [1, 3, 7])
def test_a_stratum_with_fewer_items_than_folds_is_split_without_a_warning(odd: int) -> None:
    found = manifest()
    sources = ["rare" if k < odd else "s" for k in range(len(found.items))]
    found = replace(found, items=tuple(replace(i, source=s) for i, s in zip(found.items, sources, strict=True)))
    out = np.concatenate([held for _, held in folds(found, 5, seed=0)])
    assert sorted(out) == np.flatnonzero(found.evaluated).tolist()


def test_within_leaves_everyone_else_out() -> None:
    found, within = manifest(), np.arange(50)
    for train, held in folds(found, 3, seed=0, within=within):
        assert set(train) | set(held) <= set(within)


def test_a_label_that_one_fold_could_not_learn_is_an_error_before_the_training() -> None:
    films = [
        Item(Path(f"{p}.png"), "s", frozenset({LABEL if p == 0 else NO_FINDING}), patient=str(p)) for p in range(20)
    ]
    with pytest.raises(ManifestError, match=r"Mass: 0 of 16 images that train fold \d have it; both kinds are needed"):
        plan(findings((LABEL,), films), 5, seed=0)


def test_a_label_without_a_threshold_is_an_error_before_the_training() -> None:
    films = [
        Item(Path(f"{p}.png"), "s", frozenset({LABEL if p < 2 else NO_FINDING}), patient=str(p)) for p in range(40)
    ]
    with pytest.raises(ManifestError, match=r"Mass: 0 of \d images that set the thresholds of fold 1 have it"):
        for seed in range(20):  # in one of these both sick patients are trained on or tested
            plan(findings((LABEL,), films), 1, seed=seed)
