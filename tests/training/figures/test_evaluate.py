import json
import time
from dataclasses import replace

import numpy as np
import pytest
from told_made import held

from training.errors import ManifestError
from training.figures import evaluate, metrics
from training.figures.evaluate import MEAN, Figure, Held


def named(found: list[Figure], name: str, label: str = "") -> Figure:
    return next(f for f in found if f.name == name and f.label == label)


def test_films_of_one_patient_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.integers(0, 2, 40), 10)
    scores = np.repeat(rng.normal(size=40), 10) + truth
    widths = []
    for patients in (np.repeat(np.arange(40), 10).astype(str), np.arange(400).astype(str)):
        found = evaluate.figure("AUC", metrics.auc, scores, truth=truth, groups=patients, on="films")
        assert found.low is not None and found.high is not None and found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        flagged, truth = (rng.random(150) < 0.7).astype(float), np.ones(150, np.int64)
        patients = np.arange(150).astype(str)
        f = evaluate.figure("s", metrics.sensitivity, flagged, truth=truth, groups=patients, on="", seed=seed)
        assert f.low is not None and f.high is not None
        hits += f.low <= 0.7 <= f.high
    assert hits >= 52


def test_a_thousand_draws_of_1500_films_take_about_a_second() -> None:
    some = held(1500, labels=("one",))
    start = time.perf_counter()
    evaluate.figure("AUC", metrics.auc, some.scores[:, 0], truth=some.truth[:, 0], groups=some.groups, on="")
    assert time.perf_counter() - start < 2


def test_blocks_of_draws_give_the_same_intervals_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.repeat(np.arange(30), 3).astype(str)
    whole = np.concatenate(list(evaluate.resamples(groups, seed=3, repeats=50)))
    monkeypatch.setattr(evaluate, "CELLS", 90 * 7)
    blocks = list(evaluate.resamples(groups, seed=3, repeats=50))
    assert len(blocks) == 8 and (np.concatenate(blocks) == whole).all()


def test_a_draw_holds_whole_patients_and_as_many_as_there_are() -> None:
    groups = np.repeat(np.arange(30), 3).astype(str)
    weights = next(evaluate.resamples(groups, seed=0))
    by_patient = weights.reshape(len(weights), 30, 3)
    assert (by_patient == by_patient[..., :1]).all() and (by_patient[..., 0].sum(axis=1) == 30).all()


def test_a_figure_says_on_what_it_stands() -> None:
    scores, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    groups = np.array(list("abab"))
    found = evaluate.figure("AUC", metrics.auc, scores, truth=truth, groups=groups, on="films", label="Mass")
    assert (found.images, found.patients, found.value) == (4, 2, 0.75)
    assert str(found) == "Mass: AUC 0.750 (0.750 to 1.000), films, 4 images of 2 patients"
    assert found.as_row()["label"] == "Mass" and "label" not in Figure("n", "o", 1.0, 1, 1).as_row()


def test_an_interval_that_most_draws_leave_undefined_is_not_given() -> None:
    assert evaluate.limits(np.array([0.5, np.nan, np.nan])) == (None, None)
    assert evaluate.limits(np.array([0.5, 0.5, np.nan])) == (0.5, 0.5)


def test_every_label_and_their_mean_have_every_figure() -> None:
    some = held()
    found = evaluate.figures(some, on="made films", prevalence=(0.02, 0.1))
    for label in some.labels:
        assert {f.name for f in found if f.label == label} == {
            *evaluate.OF_SCORES,
            *evaluate.OF_FLAGS,
            *(
                f"{v} at prevalence {p}"
                for v in ("PPV", "NPV")
                for p in [{0: "2.0%", 1: "10.0%"}[some.labels.index(label)]]
            ),
        }
    each = [named(found, "AUC", label).value for label in some.labels]
    assert named(found, "AUC", MEAN).value == pytest.approx(np.mean(each))
    assert all(f.on == "made films" for f in found)
    assert {f.name for f in found if f.low is None} == {"expected calibration error"}
    json.dumps([f.as_row() for f in found], allow_nan=False)


def test_without_a_stated_prevalence_there_are_no_predictive_values() -> None:
    assert not [f for f in evaluate.figures(held(), on="") if "PPV" in f.name]


def test_a_films_counts_only_where_its_label_is_sure() -> None:
    some = held()
    counted = some.counted.copy()
    counted[100:, 1] = False
    spoiled = np.where(counted, some.scores, np.nan)
    found = evaluate.figures(replace(some, counted=counted, scores=spoiled), on="")
    assert named(found, "AUC", some.labels[0]).images == 200
    assert named(found, "AUC", some.labels[1]).images == 100
    assert named(found, "AUC", some.labels[1]).value == evaluate.auc(some.scores[:100, 1], some.truth[:100, 1])


def test_of_exclusive_labels_the_highest_score_is_right_or_wrong() -> None:
    truth = np.eye(2, dtype=np.int64)[[0, 0, 1, 1]]
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    some = Held(("chest", "abdomen"), truth, truth >= 0, scores, scores >= 0.5, np.array(list("abcd")))
    assert named(evaluate.figures(some, on="", exclusive=True), "accuracy").value == 0.75


def test_rows_that_nothing_can_be_measured_on_are_named() -> None:
    some = held()
    with pytest.raises(ManifestError, match=r"Cardiomegaly: films with and without it are needed \(have 0 and 200\)"):
        replace(some, truth=np.zeros_like(some.truth))
    with pytest.raises(ManifestError, match=r"flagged: \(200, 2\) values are needed, not \(200, 1\)"):
        replace(some, flagged=some.flagged[:, :1])
    with pytest.raises(ManifestError, match="a counted film has none"):
        replace(some, scores=np.full_like(some.scores, np.nan))
