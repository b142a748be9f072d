from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training import audit, evaluate
from training.audit import Check
from training.manifest import Item, Manifest
from training.split import Split

NONE: list[tuple[np.ndarray, np.ndarray]] = []


def films(folder: Path, count: int) -> list[Path]:
    """Different smooth pictures."""
    paths = []
    for i in range(count):
        grain = np.random.default_rng(i).integers(0, 256, (24, 24)).astype(np.uint8)
        paths.append(folder / f"{i}.png")
        Image.fromarray(grain).resize((256, 256), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def manifest(paths: list[Path], patients: str) -> Manifest:
    items = [Item(p, (i % 2,), "s", q.strip("-")) for i, (p, q) in enumerate(zip(paths, patients, strict=True))]
    return Manifest(("x",), tuple(items))


def split(train: list[int], test: list[int]) -> Split:
    return Split(np.array(train), np.array(test), NONE)


def test_a_patient_in_two_splits_fails(tmp_path: Path) -> None:
    found = manifest(films(tmp_path, 4), "abca")
    assert audit.patients_apart(found, split([0, 1], [2, 3])).status == "fail"
    assert audit.patients_apart(found, split([0, 3], [1, 2])).status == "pass"


def test_unknown_patients_are_a_warning(tmp_path: Path) -> None:
    paths = films(tmp_path, 4)
    assert audit.patients_apart(manifest(paths, "----"), split([0, 1], [2, 3])).status == "warn"
    assert "2 images without" in audit.patients_apart(manifest(paths, "ab--"), split([0, 1], [2, 3])).text


def test_a_copy_of_a_film_across_splits_is_found(tmp_path: Path) -> None:
    paths = films(tmp_path, 6)
    exact, near = audit.duplicates(manifest(paths, "abcdef"), split([0, 1, 2], [3, 4, 5]))
    assert (exact.status, near.status) == ("pass", "pass")
    paths[3].write_bytes(paths[0].read_bytes())
    exact, near = audit.duplicates(manifest(paths, "abcdef"), split([0, 1, 2], [3, 4, 5]))
    assert (exact.status, exact.value, near.status) == ("fail", 1, "fail")
    exact, _ = audit.duplicates(manifest(paths, "abcdef"), split([0, 1, 3], [2, 4, 5]))
    assert exact.status == "pass", "copies on one side do no harm"


def test_a_re_encoded_smaller_film_across_splits_is_found(tmp_path: Path) -> None:
    paths = films(tmp_path, 4)
    with Image.open(paths[0]) as film:
        film.resize((200, 200)).save(tmp_path / "again.jpg", quality=80)
    paths[3] = tmp_path / "again.jpg"
    exact, near = audit.duplicates(manifest(paths, "abcd"), split([0, 1], [2, 3]))
    assert (exact.status, near.status, near.value) == ("pass", "fail", 1)


def scores(auc: float, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from statistics import NormalDist

    rng = np.random.default_rng(round(1000 * auc))
    truth = np.arange(n) % 2
    return rng.normal(size=n) + truth * NormalDist().inv_cdf(auc) * 2**0.5, truth, np.arange(n).astype(str)


@pytest.mark.parametrize(
    ("question", "baseline", "model", "expected"),
    [
        ("finding", 0.97, 0.99, ["fail"]),
        ("finding", 0.70, 0.90, ["pass", "pass"]),
        ("finding", 0.80, 0.80, ["pass", "warn"]),
        ("anatomy", 0.99, 0.99, ["reported"]),
    ],
)
def test_the_pixel_baseline_is_judged_for_findings_only(
    question: audit.Question, baseline: float, model: float, expected: list[str]
) -> None:
    pixels, truth, groups = scores(baseline)
    ours, _, _ = scores(model + 0.0001)
    checks = audit.judged_baseline(question, pixels, ours, truth=truth, groups=groups)
    assert [c.status for c in checks] == expected


def test_pixels_that_carry_the_label_have_a_high_baseline() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 2
    thumbnails = rng.normal(size=(120, 1024)).astype(np.float32)
    thumbnails[:, :40] += truth[:, None]
    halves = [(np.arange(60), np.arange(60, 120)), (np.arange(60, 120), np.arange(60))]
    found = audit.pixel_baseline(thumbnails, truth, halves)
    assert evaluate.auc(found, truth) > 0.9


@pytest.mark.parametrize(
    ("statuses", "verdict"), [(["pass"], "warn"), (["pass", "warn"], "warn"), (["warn", "fail"], "fail"), ([], "warn")]
)
def test_a_verdict_is_never_pass_while_checks_have_not_run(statuses: list[audit.Status], verdict: str) -> None:
    found = audit.concluded("finding", [Check("c", s, f"It is {s}.") for s in statuses])
    assert found.verdict == verdict
    assert {c.name for c in found.checks if c.status == "not run"} == set(audit.NOT_RUN)
    assert found.as_json()["verdict"] == verdict and found.as_json()["limits"] == audit.LIMITS


def test_it_is_a_pass_only_when_all_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "NOT_RUN", ())
    assert audit.concluded("finding", [Check("c", "pass", "Fine.")]).verdict == "pass"


def test_a_baseline_that_is_wrong_throughout_fails_like_one_that_is_right() -> None:
    pixels, truth, groups = scores(0.97)
    ours, _, _ = scores(0.99)
    right, wrong = (audit.judged_baseline("finding", p, ours, truth=truth, groups=groups) for p in (pixels, -pixels))
    assert [c.status for c in wrong] == [c.status for c in right] == ["fail"]
    assert wrong[0].value == pytest.approx(right[0].value)
    assert "inverted" in wrong[0].text and "inverted" not in right[0].text


def test_a_copy_across_the_folds_that_thresholds_come_from_is_found(tmp_path: Path) -> None:
    paths = films(tmp_path, 6)
    paths[1].write_bytes(paths[0].read_bytes())
    found = manifest(paths, "abcdef")
    train, test = np.array([0, 1, 2, 3]), np.array([4, 5])
    apart = Split(train, test, [(np.array([2, 3]), np.array([0, 1])), (np.array([0, 1]), np.array([2, 3]))])
    assert [c.status for c in audit.duplicates(found, apart)] == ["pass", "pass"]
    across = Split(train, test, [(np.array([1, 3]), np.array([0, 2])), (np.array([0, 2]), np.array([1, 3]))])
    assert [(c.status, c.value) for c in audit.duplicates(found, across)] == [("fail", 1), ("fail", 1)]
