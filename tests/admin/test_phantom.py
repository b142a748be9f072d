"""The synthetic image: taken by the routes it is made for, marked as what it is, and of nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.config import IGNORE, RAISE, WARN
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage

from config.settings import Conditions, Route
from node.admin.phantom import make_study
from node.pipeline.route import mismatch

NOW = 1_800_000_000.0


def made(folder: Path, when: Conditions) -> Dataset:
    _, (path,) = make_study(folder, [when], now=NOW)
    return dcmread(path)


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"Modality": ["CR", "DX"]},
        {"Modality": ["DX"], "BodyPartExamined": ["ABDOMEN"], "ViewPosition": ["LL"]},
        {"Modality": ["CT"], "SliceThickness": ["1.5"], "SeriesDescription": ["Thin"]},
        {"Modality": ["MG"], "StationName": ["ROOM 1"]},
        {"ImageType": ["ORIGINAL"]},
    ],
)
def test_it_is_made_so_that_a_route_takes_it(tmp_path: Path, when: Conditions) -> None:
    route = Route(name="r", when=when, bundle="b", deliver_to=["pacs"])
    assert mismatch(route, made(tmp_path, when), peer="") == ""


def test_it_is_of_the_class_of_its_modality(tmp_path: Path) -> None:
    classes = {m: made(tmp_path, {"Modality": [m]}).SOPClassUID for m in ("DX", "CT", "MG")}
    assert classes == {
        "DX": DigitalXRayImageStorageForPresentation,
        "CT": CTImageStorage,
        "MG": SecondaryCaptureImageStorage,
    }


def test_a_route_cannot_make_it_somebody_elses(tmp_path: Path) -> None:
    ds = made(tmp_path, {"PatientID": ["P1"], "StudyInstanceUID": ["1.2.3"], "Rows": ["7"], "PixelData": ["x"]})
    assert (ds.PatientID, ds.PatientName, ds.Rows) == ("OVERREAD-TEST", "OVERREAD^TEST", 512)
    assert ds.StudyInstanceUID.startswith("2.25.")


@pytest.mark.parametrize("mode", [IGNORE, WARN, RAISE])
def test_what_no_attribute_can_hold_is_left_to_the_route_to_say(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydicom.config.settings.reading_validation_mode", mode)
    monkeypatch.setattr("pydicom.config.settings._writing_validation_mode", mode)
    when = {"AcquisitionMatrix": ["wide"], "RequestAttributesSequence": ["x"]}
    assert "AcquisitionMatrix" not in made(tmp_path, when)


def test_it_says_that_it_shows_nobody(tmp_path: Path) -> None:
    ds = made(tmp_path, {})
    assert (ds.QualityControlSubject, ds.QualityControlImage) == ("YES", "YES")
    assert ds.StudyDescription == "Overread test, synthetic, research use only"
    assert ds.pixel_array.max() == 4095 and ds.pixel_array.min() < 100


def test_images_of_one_study_are_told_apart(tmp_path: Path) -> None:
    uid, paths = make_study(tmp_path, [{"Modality": ["CR"]}, {"Modality": ["CT"]}], now=NOW)
    images = [dcmread(path) for path in paths]
    assert {ds.StudyInstanceUID for ds in images} == {uid}
    assert len({ds.SOPInstanceUID for ds in images}) == len({ds.SeriesInstanceUID for ds in images}) == 2


def test_a_validator_reads_it(tmp_path: Path) -> None:
    _, (path,) = make_study(tmp_path, [{"Modality": ["CR"]}], now=NOW)
    validator = Path(sys.executable).with_name("dciodvfy")
    done = subprocess.run([validator, "-new", path], capture_output=True, check=False, text=True)
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []
