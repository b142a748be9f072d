import numpy as np
import pytest
from scipy.stats import binomtest

from training.figures.compare import compared, mcnemar

RNG = np.random.default_rng(0)
TRUTH = (RNG.random(300) < 0.4).astype(np.int64)
GOOD = RNG.normal(size=300) + 2.5 * TRUTH
POOR = RNG.normal(size=300) + 0.3 * TRUTH
PATIENTS = np.arange(300).astype(str)


def difference(a: np.ndarray, b: np.ndarray, groups: np.ndarray = PATIENTS, truth: np.ndarray = TRUTH) -> str:
    flags = a >= 1, b >= 1
    return compared("Mass", (a, b), flags, truth=truth, groups=groups).words("new@2.0.0", "old@1.0.0")


def test_the_better_model_is_named_whichever_comes_first() -> None:
    assert "Mass: new@2.0.0 is better by 0." in difference(GOOD, POOR)
    assert "Mass: old@1.0.0 is better by 0." in difference(POOR, GOOD)
    assert "300 films of 300 patients" in difference(GOOD, POOR)


def test_equal_models_show_no_difference() -> None:
    again = GOOD + 0.05 * np.random.default_rng(1).normal(size=300)
    assert "Mass: no difference shown" in difference(GOOD, again)


def test_films_of_few_patients_do_not_make_a_difference_sure() -> None:
    patients = np.repeat(np.arange(8), 40).astype(str)
    truth = np.repeat([0, 1] * 4, 40)
    rng = np.random.default_rng(5)
    a = np.repeat(rng.normal(size=8) + [0, 1] * 4, 40) + 0.01 * rng.normal(size=320)
    b = np.repeat(rng.normal(size=8) + [0, 0.3] * 4, 40) + 0.01 * rng.normal(size=320)
    found = compared("Mass", (a, b), (a >= 1, b >= 1), truth=truth, groups=patients)
    assert found.gap.low == found.gap.patients[0] < found.gap.delong[0]
    assert "no difference shown" in found.words("a", "b")
    assert found.words("a", "b").endswith("Both p take films as independent.")


def test_mcnemar_is_the_exact_binomial_test_of_the_films_that_one_model_got_right() -> None:
    right_a = np.array([True] * 18 + [False] * 5 + [True] * 100 + [False] * 10)
    right_b = np.array([False] * 18 + [True] * 5 + [True] * 100 + [False] * 10)
    found = mcnemar(right_a, right_b)
    assert (found.only_a, found.only_b) == (18, 5)
    assert found.exact == pytest.approx(binomtest(18, 23).pvalue)
    assert found.chi2 == pytest.approx(0.0123, abs=2e-4)  # (13 - 1)^2 / 23 = 6.26, one degree of freedom


def test_models_that_never_differ_have_p_one() -> None:
    same = np.array([True, False])
    assert mcnemar(same, same).exact == mcnemar(same, same).chi2 == 1
