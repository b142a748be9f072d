from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_made import COUNT, Change, folds, items, pictures, subject, unknown_age_of_the_healthy

from training.audit import baselines, records
from training.audit.subject import Subject, words
from training.errors import ManifestError
from training.manifest import Item, exclusive

SICK = np.arange(COUNT) % 2 == 1


def pixels_checked(found: Subject, question: str = "finding") -> tuple[str, float]:
    scores = baselines.held_out(baselines.pixels_model, baselines.thumbnails(found.films.pixels), found)
    check = baselines.pixel_check(question, scores, found)  # type: ignore[arg-type]
    assert check.value is not None
    return check.status, check.value


def test_small_pixels_that_carry_the_label_fail_a_finding_and_not_an_anatomy() -> None:
    bright = pictures(COUNT)
    bright[SICK, :20, :20] = 255
    found = subject(items(), bright)
    assert pixels_checked(found)[0] == "fail" and pixels_checked(found)[1] > 0.95
    assert pixels_checked(found, "anatomy")[0] == "reported"
    assert pixels_checked(subject(items())) == ("pass", pytest.approx(0.5, abs=0.2))


def test_a_baseline_that_is_wrong_throughout_counts_like_one_that_is_right() -> None:
    found = subject(items())
    right, wrong = (baselines.aucs({0: sign * SICK.astype(float)}, found) for sign in (1, -1))
    assert right == wrong == {"Spot": 1.0}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (lambda i, sick, item: replace(item, view="AP" if sick else "PA"), "View"),
        (lambda i, sick, item: replace(item, sex="F" if sick else "M"), "Sex"),
        (lambda i, sick, item: replace(item, path=Path(f"{i}.jpg" if sick else f"{i}.png")), "File type"),
        (lambda i, sick, item: replace(item, source="there" if sick else "here"), "Source"),
        (unknown_age_of_the_healthy, "Age"),
    ],
)
def test_what_tells_the_classes_apart_without_pixels_fails_and_is_named(change: Change, column: str) -> None:
    check = baselines.metadata_check("finding", subject(items(change)))
    assert check.status == "fail" and f"{column}: of 60 films with Spot" in check.text


def test_an_image_size_that_tells_the_classes_apart_fails() -> None:
    found = subject(items())
    shapes = np.where(SICK[:, None], 1024, 512).repeat(2, axis=1).astype(np.int32)
    check = baselines.metadata_check("finding", replace(found, films=replace(found.films, shapes=shapes)))
    assert check.status == "fail" and "60 1024x1024 px" in check.text and "60 512x512 px" in check.text


def test_nothing_known_that_differs_passes() -> None:
    assert baselines.metadata_check("finding", subject(items())).status == "pass"
    assert baselines.separable_check("finding", subject(items())).status == "pass"


def test_a_class_in_a_folder_of_its_own_is_no_source() -> None:
    filed = subject(items(lambda i, sick, item: replace(item, path=Path("sick" if sick else "well") / f"{i}.png")))
    assert baselines.metadata_check("finding", filed).status == "pass"


def test_one_source_for_all_says_exactly_nothing() -> None:
    def aged(_i: int, _sick: bool, item: Item) -> Item:
        return replace(item, age=50.0)

    # folds of unequal shares of sick films: a fit to nothing must not rank the folds
    made = [item for i, item in enumerate(items(aged)) if i % 2 or i > 40]
    assert baselines.separable_check("finding", subject(made)).value == 0.5


def test_children_against_adults_fail_in_words_a_radiologist_understands() -> None:
    check = baselines.separable_check(
        "finding", subject(items(lambda i, sick, item: replace(item, age=50.0 + i % 30 if sick else 3.0)))
    )
    assert check.status == "fail"
    assert "of 60 films with Spot the age is known of 60 (median 6" in check.text
    assert "of 60 films with No Finding the age is known of 60 (median 3 years, 60 under 18)" in check.text


def test_ages_that_nobody_knows_are_a_warning() -> None:
    check = baselines.separable_check("finding", subject(items(lambda i, sick, item: replace(item, age=None))))
    assert check.status == "warn" and "No age is known" in check.text


def two_findings() -> list[Item]:
    """Every fourth film has a Mark instead of a Spot, and all of these are AP."""
    return items(
        lambda i, _, item: (
            replace(item, labels=frozenset({"Mark"}), view="AP") if i % 4 == 1 else replace(item, view="PA")
        )
    )


def test_of_several_labels_those_that_fail_are_named() -> None:
    check = baselines.metadata_check("finding", subject(two_findings(), labels=("Spot", "Mark")))
    assert check.status == "fail" and "1.00 for Mark." in check.text and "Of the other labels: AUC 0." in check.text


def test_a_label_with_too_few_films_is_not_judged_and_that_is_said() -> None:
    made = [replace(i, labels=frozenset({"Rare"})) if n == 3 else i for n, i in enumerate(items())]
    check = baselines.metadata_check("finding", subject(made, labels=("Spot", "Rare")))
    assert check.status == "warn" and "Too few films to say it of Rare." in check.text
    alone = baselines.metadata_check("finding", subject(made, labels=("Rare",)))
    assert alone.status == "not run"


def test_of_two_classes_that_are_each_others_rest_one_is_judged() -> None:
    made = items()
    names = ("Spot", "No Finding")
    found = Subject(exclusive(names, made), subject(made).films, folds())
    assert found.judged == [0] and not found.unjudged and found.others(0) == "No Finding"


def test_no_fit_sees_more_films_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Model:
        def fit(self, features: np.ndarray, _truth: np.ndarray) -> "Model":
            seen.append(len(features))
            return self

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            return np.zeros((len(features), 2))

    monkeypatch.setattr(baselines, "MOST", 50)
    baselines.held_out(Model, np.zeros((COUNT, 1)), subject(items()))
    assert seen == [50] * 4


def test_an_unknown_value_is_a_category_of_its_own() -> None:
    found = subject(items(lambda i, sick, item: replace(item, view="" if i % 3 else "PA")))
    assert records.columns(found)["view"].shape == (COUNT, 2)
    assert records.age_groups([replace(items()[0], age=a) for a in (None, 17.9, 18.0, 85.0)]).shape == (4, 4)


def test_words_name_the_highest_three_and_the_lowest() -> None:
    values = {"a": 0.5, "b": 0.9, "c": 0.8, "d": 0.7, "e": 0.6, "f": 0.55}
    assert words(values) == "AUC 0.90 for b, 0.80 for c, 0.70 for d, 2 more between, 0.50 for a"


def test_a_film_held_out_twice_is_refused() -> None:
    with pytest.raises(ManifestError, match="held out in several folds"):
        subject(items(), parts=[*folds(), (np.arange(10), np.arange(100, 110))])
