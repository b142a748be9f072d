"""Training reads PNG and JPEG, the node DICOM: the same film gets the same answer, however it is written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from encodings_made import by_pydicom
from films_made import dataset
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from models.findings import Reader, Reading
from models.pixels import read
from models.registry import Registry

pytestmark = [pytest.mark.model, pytest.mark.data]
FILMS = ("nih_adleberg/images/*", "nih1000/1_abnormal/*", "hello_world/chst/*", "hello_world/abd/*")
PHOTOMETRIC = ("MONOCHROME2", "MONOCHROME1")
SYNTAXES = (ExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless)
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def films(data_dir: Path) -> list[Path]:
    """Of each source its first file: three chests, of 64 px and more, and an abdomen."""
    return [sorted(data_dir.glob(pattern))[0] for pattern in FILMS]


@pytest.fixture(scope="module", params=["chest-findings", "chest-abnormal"])
def reader(request: pytest.FixtureRequest) -> Reader:
    registry = Registry()
    return Reader(registry, registry.find(request.param), device="cpu")


def stored(own: NDArray[np.uint8], bits: int, photometric: str) -> NDArray[np.uint8 | np.uint16]:
    """The film's own 8-bit values as a detector of so many bits would have stored them: in 8 bits the same values."""
    values = np.rint(own / 255 * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    return values if photometric == "MONOCHROME2" else (2**bits - 1 - values).astype(values.dtype)


def written(film: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """The film as DICOM in every form, each with its name."""
    with Image.open(film) as picture:
        own = np.asarray(picture.convert("L"))
    for bits, photometric in product((8, 12, 16), PHOTOMETRIC):
        plain = folder / f"{film.stem}-{bits}-{photometric}.dcm"
        values = stored(own, bits, photometric)
        dataset(values, bits=bits, PhotometricInterpretation=photometric).save_as(plain, enforce_file_format=True)
        for syntax in SYNTAXES:
            path = plain if syntax == ExplicitVRLittleEndian else folder / f"{plain.stem}-{syntax}.dcm"
            if path != plain:
                by_pydicom(syntax)(plain, path)
            yield f"{film.name}, {bits} bit, {photometric}, {syntax.name}", path


def gap(one: Reading, other: Reading) -> float:
    assert one.scores.keys() == other.scores.keys()
    return max((abs(one.scores[name] - other.scores[name]) for name in one.scores), default=0.0)


def test_a_film_as_dicom_of_any_kind_gets_the_answer_of_its_png(
    reader: Reader, films: list[Path], tmp_path: Path
) -> None:
    largest = 0.0
    for film in films:
        (expected,) = reader.read([read(film)])
        names, paths = zip(*written(film, tmp_path), strict=True)
        for name, reading in zip(names, reader.read([read(path) for path in paths]), strict=True):
            assert (reading.status, reading.code) == (expected.status, expected.code), f"{name}: {reading.reason}"
            assert gap(reading, expected) <= TOLERANCE, name
            largest = max(largest, gap(reading, expected))
    print(f"{reader.bundle.ref}: largest difference of a score {largest:.4f}")


def test_the_comparison_is_of_films_that_are_read_and_of_one_that_is_refused(reader: Reader, films: list[Path]) -> None:
    *chests, abdomen = reader.read([read(film) for film in films])
    assert "analysed" in {reading.status for reading in chests}
    assert abdomen.status == "refused"
