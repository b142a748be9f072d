"""Decoding once: the same numbers as the node computes, and a killed pass that goes on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from rich.console import Console

from models import preprocess
from models.pixels import read
from training import cache
from training.errors import ManifestError
from training.manifest import Item

QUIET = Console(quiet=True)
SIZE = 24


def grey(seed: int, rows: int = 60, columns: int = 50) -> np.ndarray:
    """A smooth film with some grain, 0 to 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns] / rows
    return np.clip(40 + 150 * np.exp(-((x - 0.4) ** 2) / 0.1) * y + rng.normal(0, 4, y.shape), 0, 255).astype(np.uint8)


def pictures(folder: Path, count: int) -> list[Item]:
    items = []
    for number in range(count):
        Image.fromarray(grey(number)).save(folder / f"{number}.png")
        items.append(Item(folder / f"{number}.png", "made", patient=str(number)))
    return items


def dicom(path: Path, stored: np.ndarray, photometric: str) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "CR", 1, photometric
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = stored.astype("<u2").tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


def test_cached_bytes_are_what_the_node_feeds_its_network(tmp_path: Path) -> None:
    items = pictures(tmp_path, 3)
    found = cache.films(items, SIZE, tmp_path / "work", QUIET)
    for number, item in enumerate(items):
        node = preprocess.run(cache.steps(SIZE), read(item.path).pixels)[..., 0]
        assert np.array_equal(found.pixels[number].astype(np.float32) / np.float32(255), node)
        assert found.digests[number] == hashlib.sha256(item.path.read_bytes()).hexdigest()
    assert found.shapes.tolist() == [[60, 50]] * 3 and found.pixels.dtype == np.uint8
    assert found.pixels.min() == 0 and found.pixels.max() == 255, "stretched"


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_film_as_png_and_as_dicom_gives_the_same_bytes(tmp_path: Path, photometric: str) -> None:
    (item,) = pictures(tmp_path, 1)
    stored = grey(0).astype(np.uint16) * 200 + 1000
    stored = stored if photometric == "MONOCHROME2" else 65535 - stored
    twin = Item(dicom(tmp_path / "twin.dcm", stored, photometric), "made", patient="0")
    one, two = cache.films([item, twin], SIZE, tmp_path / "work", QUIET).pixels.astype(int)
    assert np.abs(one - two).max() <= 1


def decoded(items: list[Item], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that a pass decodes."""
    seen: list[Path] = []
    one = cache._film

    def spy(path: Path, size: int) -> object:
        seen.append(path)
        return one(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_film", spy)
        cache.films(items, SIZE, folder, QUIET)
    return sorted(seen)


def test_what_is_decoded_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = pictures(tmp_path, 5)
    assert len(decoded(items, tmp_path / "work", monkeypatch)) == 5
    assert decoded(items, tmp_path / "work", monkeypatch) == []
    Image.fromarray(grey(9)).save(items[0].path)
    assert len(decoded(items, tmp_path / "work", monkeypatch)) == 5, "a changed file is another film"


@pytest.mark.parametrize("left", ["whole lines", "half a line"])
def test_a_killed_pass_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    items = pictures(tmp_path, 6)
    whole = cache.films(items, SIZE, tmp_path / "work", QUIET)
    expected, digests = np.array(whole.pixels), whole.digests
    del whole
    (table,) = tmp_path.glob(f"work/*/{cache.TABLE}")
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:2]) + (lines[2][:9] if left == "half a line" else ""))
    (pixels,) = tmp_path.glob(f"work/*/{cache.PIXELS}")
    np.lib.format.open_memmap(pixels, "r+")[2:] = 7
    assert [p.name for p in decoded(items, tmp_path / "work", monkeypatch)] == ["2.png", "3.png", "4.png", "5.png"]
    again = cache.films(items, SIZE, tmp_path / "work", QUIET)
    assert np.array_equal(again.pixels, expected) and again.digests == digests
    assert again.shapes.tolist() == [[60, 50]] * 6


def test_files_that_cannot_be_decoded_are_all_named(tmp_path: Path) -> None:
    items = pictures(tmp_path, 4)
    items[1].path.write_bytes(b"no picture")
    items[3].path.unlink()
    with pytest.raises(ManifestError, match=r"2 files cannot be decoded:\n.*1\.png\n.*3\.png"):
        cache.films(items, SIZE, tmp_path / "work", QUIET)
    Image.fromarray(grey(1)).save(items[1].path)
    Image.fromarray(grey(3)).save(items[3].path)
    assert len(cache.films(items, SIZE, tmp_path / "work", QUIET).digests) == 4


def test_two_sizes_do_not_mix(tmp_path: Path) -> None:
    items = pictures(tmp_path, 2)
    shapes = {cache.films(items, size, tmp_path / "work", QUIET).pixels.shape for size in (16, 24)}
    assert shapes == {(2, 16, 16), (2, 24, 24)}
