from dataclasses import replace

import numpy as np
import pytest
from audit_made import films, folds, items, pictures, subject
from PIL import Image

from training.audit import leaks
from training.audit.subject import Subject
from training.manifest import findings


def test_a_patient_in_two_splits_fails() -> None:
    shared = subject(items(lambda i, _, item: replace(item, patient="p0") if i == 119 else item))
    assert leaks.patients_apart(shared, shared.parts).status == "fail"
    beside = subject(items(lambda i, _, item: replace(item, patient="p0") if i == 1 else item))
    assert leaks.patients_apart(beside, beside.parts).status == "pass"


def test_a_patient_across_the_split_that_thresholds_come_from_fails() -> None:
    beside = subject(items(lambda i, _, item: replace(item, patient="p0") if i == 1 else item))
    inner = [(np.array([0]), np.array([1]))]
    assert leaks.patients_apart(beside, [*beside.parts, *inner]).status == "fail"


def test_unknown_patients_are_a_warning() -> None:
    nobody = subject(items(lambda i, _, item: replace(item, patient="")))
    some = subject(items(lambda i, _, item: replace(item, patient="") if i < 2 else item))
    assert leaks.patients_apart(nobody, nobody.parts).status == "warn"
    found = leaks.patients_apart(some, some.parts)
    assert found.status == "warn" and "Of 2 films" in found.text


def copied(to: int, *, same_file: bool) -> Subject:
    """Film 0 again at place `to`, as the same file or encoded anew at half the size."""
    pixels = pictures(120)
    small = Image.fromarray(pixels[0]).resize((40, 40))
    pixels[to] = pixels[0] if same_file else np.asarray(small.resize((64, 64)))
    digests = [f"d{i}" for i in range(120)]
    digests[to] = digests[0] if same_file else digests[to]
    return Subject(findings(["Spot"], items()), films(pixels, digests), folds())


def test_a_copy_of_a_film_across_splits_is_found() -> None:
    across, beside = copied(119, same_file=True), copied(1, same_file=True)
    assert [(c.status, c.value) for c in leaks.duplicates(across, across.parts)] == [("fail", 1), ("pass", 0)]
    assert [c.status for c in leaks.duplicates(beside, beside.parts)] == ["pass", "pass"]


def test_a_re_encoded_smaller_film_across_splits_is_found() -> None:
    across = copied(119, same_file=False)
    assert [(c.status, c.value) for c in leaks.duplicates(across, across.parts)] == [("pass", 0), ("fail", 1)]


def test_pairs_are_the_same_when_they_are_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.repeat(np.random.default_rng(0).random((30, leaks.BITS)) < 0.5, 2, axis=0)
    whole = {(int(a), int(b)) for i, j in leaks.pairs(bits) for a, b in zip(i, j, strict=True)}
    monkeypatch.setattr(leaks, "BLOCK", 7)
    blocks = [(int(a), int(b)) for i, j in leaks.pairs(bits) for a, b in zip(i, j, strict=True)]
    assert len(blocks) == len(set(blocks)) and set(blocks) == whole == {(2 * k, 2 * k + 1) for k in range(30)}


def test_films_that_differ_in_more_bits_than_the_limit_are_two_films() -> None:
    bits = np.zeros((3, leaks.BITS), bool)
    bits[1, :16], bits[2, -17:] = True, True
    assert [(i.tolist(), j.tolist()) for i, j in leaks.pairs(bits)] == [([0], [1])]
