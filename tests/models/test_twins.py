"""The same film, odd in one way each, looks the same; and a real one gets the same scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from house import make_image
from odd_made import EXTREMES, SAME, grey, odd, padded, plain, table
from pydicom import dcmread
from pydicom.dataset import Dataset

from models.findings import Reader
from models.pixels import Frame, read
from models.registry import Registry

Change = Callable[[Dataset], None]


def pixels(tmp_path: Path, change: Change) -> Any:
    return read(odd(make_image(tmp_path / "odd.dcm"), change)).pixels


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_what_is_odd_looks_like_the_plain_film(tmp_path: Path, change: Change) -> None:
    found = pixels(tmp_path, change)
    assert found == pytest.approx(pixels(tmp_path, grey(plain())), abs=2e-4)
    assert np.ptp(found) > 0.5


@pytest.mark.parametrize("change", EXTREMES.values(), ids=EXTREMES.keys())
def test_without_a_usable_window_the_extremes_decide(tmp_path: Path, change: Change) -> None:
    values = plain().astype(float)
    assert pixels(tmp_path, change) == pytest.approx((values - values.min()) / np.ptp(values), abs=1e-5)


def test_padding_is_black_and_changes_nothing_else(tmp_path: Path) -> None:
    found = pixels(tmp_path, padded)
    assert found[8:72, 6:54] == pytest.approx(pixels(tmp_path, EXTREMES["no window"]), abs=1e-5)
    assert found[:8].max() == found[:, :6].max() == 0


BITS = 2**15 - 1


def inverted(ds: Dataset, stored: Any) -> None:
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.PixelData = (BITS - stored).tobytes()
    ds.WindowCenter = BITS + 1 - ds.WindowCenter


def signed(ds: Dataset, stored: Any) -> None:
    ds.PixelRepresentation, ds.RescaleIntercept, ds.RescaleSlope = 1, 16384, 1
    ds.PixelData = (stored.astype(np.int16) - np.int16(16384)).tobytes()


def through_a_table(ds: Dataset, stored: Any) -> None:
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        ds.pop(keyword, None)
    ds.ModalityLUTSequence = table(0, np.arange(BITS, -1, -1))["ModalityLUTSequence"]
    ds.PixelData = (BITS - stored).tobytes()


def junk(ds: Dataset, stored: Any) -> None:
    ds.PixelData = (stored | np.uint16(0x8000)).tobytes()


@pytest.fixture(scope="module")
def reader() -> Reader:
    registry = Registry()
    return Reader(registry, registry.find("chest-findings"), device="cpu")


@pytest.mark.model
@pytest.mark.parametrize("change", [inverted, signed, through_a_table, junk])
def test_a_real_film_gets_the_same_scores(
    reader: Reader, pydicom_file: Callable[[str], Path], tmp_path: Path, change: Callable[[Dataset, Any], None]
) -> None:
    film = pydicom_file("RG1_UNCR.dcm")
    ds = dcmread(film)
    assert (ds.PhotometricInterpretation, ds.BitsStored) == ("MONOCHROME1", 15)
    change(ds, ds.pixel_array)
    ds.save_as(tmp_path / "twin.dcm")
    plain_reading, twin = reader.read([read(film), read(tmp_path / "twin.dcm")])
    assert plain_reading.status == twin.status == "analysed"
    assert twin.scores == pytest.approx(plain_reading.scores, abs=1e-3)


@pytest.mark.model
def test_a_film_in_the_wrong_sense_does_not_pass(reader: Reader, pydicom_file: Callable[[str], Path]) -> None:
    film = read(pydicom_file("RG1_UNCR.dcm"))
    (reading,) = reader.read([Frame(1 - film.pixels, film.header)])
    assert reading.status == "refused"
