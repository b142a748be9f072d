from dataclasses import replace

from told_made import held, items

from training.figures import evaluate, subgroups


def test_every_part_has_its_n_and_the_parts_make_the_whole() -> None:
    some = held()
    found = subgroups.subgroups(some, items(), on="made")
    assert {g.by for g in found} == {"view", "sex", "age", "source"}
    for by in ("view", "sex", "age", "source"):
        mine = [g for g in found if g.by == by and g.label == "Cardiomegaly"]
        assert sum(g.images for g in mine) == 200 and sum(g.positives for g in mine) == some.truth[:, 0].sum()
    assert [g.name for g in found if g.by == "age"][:3] == ["18 to 39", "40 to 59", "60 to 79"]


def test_the_figure_is_that_of_the_part_alone() -> None:
    some = held()
    group = next(g for g in subgroups.subgroups(some, items(), on="made") if g.name == "F")
    assert group.auc and group.auc.value == evaluate.auc(some.scores[::2, 0], some.truth[::2, 0])
    assert group.auc.on == "made, sex F" and group.auc.low is not None


def test_a_part_with_few_films_gets_its_n_and_no_figure() -> None:
    rare = [replace(i, view="LATERAL") if n < 12 else replace(i, view="PA") for n, i in enumerate(items())]
    group = next(g for g in subgroups.subgroups(held(), rare, on="") if g.name == "LATERAL")
    assert group.images == 12 and group.auc is None and group.sensitivity is None


def test_a_kind_with_one_part_is_left_out() -> None:
    assert not [g for g in subgroups.subgroups(held(), items(view="PA"), on="") if g.by == "view"]


def test_what_is_not_known_is_a_part_of_its_own_and_stands_last() -> None:
    some = [replace(i, age=None) if n % 2 else i for n, i in enumerate(items())]
    bands = [g.name for g in subgroups.subgroups(held(), some, on="") if g.by == "age" and g.label == "Cardiomegaly"]
    assert bands[-1] == subgroups.UNKNOWN and len(bands) == 4


def test_ages_fall_into_one_band_each() -> None:
    assert [subgroups.age_band(a) for a in (0, 17.9, 18, 79.9, 80, 104)] == [
        "under 18",
        "under 18",
        "18 to 39",
        "60 to 79",
        "80 and older",
        "80 and older",
    ]
