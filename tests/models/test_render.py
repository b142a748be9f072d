"""A picture for people, from a child process that may do anything and harm nobody."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from house import make_image
from PIL import Image
from pydicom import dcmread

from models import render
from models.refusal import NotAnalysable


def shown(path: Path, edge: int = 1024) -> Image.Image:
    return Image.open(io.BytesIO(render.png(path, edge=edge)))


def test_a_large_film_becomes_as_small_as_is_asked(pydicom_file: Callable[[str], Path]) -> None:
    picture = shown(pydicom_file("RG1_UNCR.dcm"), 200)
    assert (max(picture.size), picture.mode) == (200, "L")


def test_a_coloured_capture_stays_coloured(tmp_path: Path) -> None:
    ds = dcmread(make_image(tmp_path / "a.dcm"))
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.Rows = ds.Columns = 4
    ds.PixelData = bytes([200, 10, 30]) * 16
    ds.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert np.asarray(shown(tmp_path / "b.dcm"))[0, 0].tolist() == [200, 10, 30]


def test_what_is_no_image_has_its_reason(tmp_path: Path) -> None:
    with pytest.raises(NotAnalysable, match="holds no image"):
        render.png(make_image(tmp_path / "a.dcm", Rows=None), edge=100)
    (tmp_path / "b").write_bytes(b"nothing")
    with pytest.raises(NotAnalysable, match="DICOM"):
        render.png(tmp_path / "b", edge=100)


def test_pixels_that_end_early_are_no_picture(tmp_path: Path) -> None:
    path = make_image(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(NotAnalysable):
        render.png(path, edge=100)


def test_a_decoder_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "START_SECONDS", -1.99)  # no process starts in a hundredth of a second
    with pytest.raises(NotAnalysable, match="took more than 2 s"):
        render.png(make_image(tmp_path / "a.dcm"), edge=100, seconds=2)
