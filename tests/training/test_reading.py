import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import models_made
import pytest
from reader_made import Bright, bundle, films
from rich.console import Console

from models.bundle import REQUIRED, SUMS, BundleError
from training import reading
from training.errors import ManifestError
from training.manifest import NO_FINDING, Item

QUIET = Console(quiet=True)
GATE: dict[str, Any] = {"bundle": "body-part", "accept": ["chest"], "at_least": 0.9}


def item(*labels: str, weak: str = "") -> Item:
    return Item(Path("a.png"), "made", frozenset(labels), frozenset({weak} - {""}))


def sealed(root: Path) -> Path:
    made = models_made.bundle(gate=GATE)
    folder = root / "cardiomegaly-1.0.0"
    folder.mkdir()
    for name in REQUIRED:
        (folder / name).write_text('{"verdict": "absent", "checks": []}')
    (folder / "bundle.json").write_text(made.spec.model_dump_json(exclude_none=True))
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in sorted(REQUIRED)]
    (folder / SUMS).write_text("".join(lines))
    return folder


def test_labels_match_in_any_case_and_an_underscore_is_a_space() -> None:
    found = reading.truth(["Pleural_Thickening"], [item("pleural thickening"), item(NO_FINDING)])
    assert found.targets.tolist() == [[1], [0]] and found.labels == ("Pleural_Thickening",)


def test_a_finding_is_measured_against_films_without_any_where_the_source_says_which() -> None:
    found = reading.truth(["Mass"], [item("Mass"), item(NO_FINDING), item("Edema"), item()])
    assert found.counted[:, 0].tolist() == [True, True, False, False]


def test_a_film_that_is_said_to_be_both_is_an_error_that_names_it() -> None:
    with pytest.raises(ManifestError, match=r"a\.png: is labelled both No Finding and Mass"):
        item("Mass", NO_FINDING)


def test_without_such_films_it_is_measured_against_the_rest_but_not_against_likely_ones() -> None:
    found = reading.truth(["Mass"], [item("Mass"), item("Edema"), item("Edema", weak="Mass")])
    assert found.targets[:, 0].tolist() == [1, 0, 0] and found.counted[:, 0].tolist() == [True, True, False]


def test_no_finding_itself_is_measured_against_all_others() -> None:
    found = reading.truth(["no finding"], [item(NO_FINDING), item("Mass"), item("Edema")])
    assert found.targets[:, 0].tolist() == [1, 0, 0] and found.counted.all()


def test_abnormal_is_every_finding() -> None:
    found = reading.truth(["Abnormal"], [item("Mass"), item("Edema"), item(NO_FINDING)])
    assert found.targets[:, 0].tolist() == [1, 1, 0] and found.counted.all()


def test_labels_that_the_source_lacks_are_left_out_and_none_at_all_names_both_lists() -> None:
    some = [item("Mass"), item("Edema")]
    assert reading.truth(["Hernia", "Mass"], some).labels == ("Mass",)
    with pytest.raises(ManifestError, match=r"no label of the bundle \(Hernia\) is one of the source \(Edema, Mass\)"):
        reading.truth(["Hernia"], some)


def test_every_film_gets_its_reading_and_maps_are_kept_only_beside_boxes(tmp_path: Path) -> None:
    some = films(tmp_path)
    (tmp_path / "note.txt").write_text("no film")
    some += [replace(some[0], path=tmp_path / "note.txt"), replace(some[0], path=tmp_path / "gone.png")]
    said = reading.readings(Bright(bundle(tmp_path)), some, console=QUIET)  # type: ignore[arg-type]
    assert [r.code for r in said[-2:]] == ["not_dicom", "unreadable"] and len(said) == len(some)
    assert said[2].status == "refused"
    assert all(bool(r.saliency) == bool(i.boxes) for r, i in zip(said, some, strict=True) if r.status == "analysed")


def test_a_bundle_is_opened_by_folder_with_or_without_its_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "Reader", lambda registry, found: found)
    folder = sealed(tmp_path)
    with_gate: Any = reading.opened(str(folder))
    without: Any = reading.opened(str(folder), gate=False)
    assert with_gate.spec.gate.bundle == "body-part" and without.spec.gate is None
    assert without.spec.labels == with_gate.spec.labels
    with pytest.raises(BundleError, match="nowhere: no such bundle"):
        reading.opened("nowhere")
