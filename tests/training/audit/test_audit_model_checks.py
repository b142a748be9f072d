from collections.abc import Mapping

import numpy as np
import pytest
from audit_made import COUNT, folds, items, subject, told

from training.audit import hide, model_checks
from training.audit.subject import Subject
from training.audit.verdict import Question
from training.manifest import Item, exclusive

FOUND = subject(items())
GOOD, CHANCE = told(2.0, FOUND.manifest), told(0.0, FOUND.manifest, seed=3)


def test_a_hidden_film_keeps_its_margins_and_loses_its_middle() -> None:
    film = np.random.default_rng(0).integers(0, 256, (100, 80)).astype(np.uint8)
    hidden = hide(film)
    assert hidden.dtype == np.uint8 and hidden.shape == film.shape
    assert (hidden[10:90, 4:76] == int(np.median(film))).all()
    assert (hidden[:10] == film[:10]).all() and (hidden[:, 76:] == film[:, 76:]).all()
    assert not np.shares_memory(film, hidden)


def test_a_score_that_survives_without_the_organ_fails_a_finding() -> None:
    kept = model_checks.organ_check("finding", FOUND, {"plain": GOOD, "hidden": GOOD})
    assert kept.status == "fail" and kept.value == 1.0 and "does not look at the organ" in kept.text
    lost = model_checks.organ_check("finding", FOUND, {"plain": GOOD, "hidden": CHANCE})
    assert lost.status == "pass" and lost.value is not None and lost.value < 0.5
    assert model_checks.organ_check("anatomy", FOUND, {"plain": GOOD, "hidden": GOOD}).status == "reported"


def test_a_model_no_better_than_chance_is_a_warning_because_nothing_can_be_lost() -> None:
    check = model_checks.organ_check("finding", FOUND, {"plain": -GOOD, "hidden": GOOD})
    assert check.status == "warn" and "No better than chance: Spot" in check.text


def test_a_model_that_is_not_better_than_small_pixels_warns_with_the_interval() -> None:
    better = model_checks.gain_check("finding", FOUND, {"plain": GOOD}, {0: CHANCE[:, 0]})
    assert better.status == "pass" and better.value is not None and better.value > 0.2
    equal = model_checks.gain_check("finding", FOUND, {"plain": GOOD}, {0: told(2.0, FOUND.manifest, 9)[:, 0]})
    assert equal.status == "warn" and "Not shown to be better than such pixels: Spot" in equal.text


def test_an_inverted_pixel_baseline_is_turned_before_it_is_compared() -> None:
    pixels = told(2.0, FOUND.manifest, 9)[:, 0]
    right, wrong = (model_checks.gain_check("finding", FOUND, {"plain": GOOD}, {0: s * pixels}) for s in (1, -1))
    assert right == wrong


def parts_of_the_body(count: int = COUNT) -> Subject:
    made = [Item(i.path, "drawn", frozenset({("chest", "hand", "CT")[n % 3]})) for n, i in enumerate(items())]
    return Subject(exclusive(("chest", "hand", "CT"), made), FOUND.films, folds(count))


def test_an_anatomy_that_is_only_known_by_its_resolution_fails() -> None:
    found = parts_of_the_body()
    sure = found.manifest.targets * 4.0 - 2
    assert model_checks.matched_check("anatomy", found, {"64 px": sure}, None).status == "pass"
    lost = sure.copy()
    lost[found.truth(1) == 1] = [2, -2, -2]
    check = model_checks.matched_check("anatomy", found, {"64 px": lost}, None)
    assert check.status == "fail" and check.value == pytest.approx(2 / 3) and "hand" in check.text


def test_only_radiographs_count_at_equal_resolution() -> None:
    found = parts_of_the_body()
    film = found.truth(2) == 0
    wrong_ct = found.manifest.targets * 4.0 - 2
    wrong_ct[~film] = [2, -2, -2]
    assert model_checks.matched_check("anatomy", found, {"64 px": wrong_ct}, None).status == "fail"
    check = model_checks.matched_check("anatomy", found, {"64 px": wrong_ct}, film)
    assert check.status == "pass" and "80 radiographs" in check.text and "CT" not in check.text


def test_one_body_part_counts_both_of_its_answers() -> None:
    check = model_checks.matched_check("anatomy", FOUND, {"64 px": np.ones((COUNT, 1))}, None)
    assert (check.status, check.value) == ("fail", 0.5)


@pytest.mark.parametrize(("question", "resolution"), [("finding", "not given"), ("anatomy", "not run")])
def test_without_scores_the_model_checks_are_not_run(question: Question, resolution: str) -> None:
    none: Mapping[str, np.ndarray] = {}
    assert model_checks.organ_check(question, FOUND, none).status == "not run"
    assert model_checks.gain_check(question, FOUND, none, {}).status == "not run"
    assert model_checks.matched_check(question, FOUND, none, None).status == resolution


def test_that_no_other_source_was_asked_is_said_and_is_no_doubt() -> None:
    assert model_checks.external_check().status == "not given"
