"""The gate of the chest bundles on what it will meet. Figures are printed: `pytest -s` shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.findings import Reader, Reading
from models.header import Header
from models.pixels import Frame, read
from models.preprocess import resize
from models.registry import Registry

pytestmark = [pytest.mark.model, pytest.mark.data]
Floats = NDArray[np.float32]

CHESTS = (
    "RG1_J2KI.dcm",
    "966_fixed.dcm",
    "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm",
    "1.3.6.1.4.1.11129.5.5.110503645592756492463169821050252582267888.dcm",
)
"""The files of data/dicom that show a chest as it should be; all others there do not."""
OTHERS = ("RG3_UNCR.dcm", "RG3_J2KR.dcm", "693_UNCR.dcm", "MR2_UNCR.dcm", "explicit_VR-UN.dcm")
"""pydicom-data: lower leg, CT of a head, MR of a shoulder, CT of an abdomen."""
SAMPLE = 100


@pytest.fixture(scope="module")
def reader() -> Reader:
    """Any chest bundle does: all have the same gate."""
    registry = Registry()
    return Reader(registry, registry.find("chest-abnormal"), device="cpu")


def frame(pixels: Floats) -> Frame:
    """Pixels without a header, so that nothing but the gate decides."""
    return Frame(np.asarray(pixels, np.float32), Header())


def asked(reader: Reader, pictures: Sequence[Floats]) -> list[Reading]:
    return reader.read([frame(p) for p in pictures])


def told(name: str, reading: Reading) -> str:
    likely = max(reading.gate, key=lambda label: reading.gate[label])
    said = f"{likely} {reading.gate[likely]:.3f}, chest {reading.gate['chest']:.3f}, distance {reading.distance:.2f}"
    return f"{reading.status:<9} {name}: {said}"


def evenly(paths: Sequence[Path], count: int = SAMPLE) -> list[Floats]:
    """As many of the files as asked for, evenly spread, so that every run has the same ones."""
    chosen = sorted(paths)[:: len(paths) // count][:count]
    assert len(chosen) == count
    return [read(path).pixels for path in chosen]


@pytest.fixture(scope="module")
def nih(data_dir: Path) -> list[Floats]:
    return evenly([*(data_dir / "nih_adleberg" / "images").glob("*.jpg")])


@pytest.fixture(scope="module")
def tiny(data_dir: Path) -> list[Floats]:
    """NIH films at 64 px, most of which the gate was not trained on."""
    return evenly([*(data_dir / "nih1000").glob("*/*.png")], 400)


def refused(readings: Sequence[Reading], what: str) -> float:
    """The part that is refused; printed with the distances."""
    part = float(np.mean([r.status == "refused" for r in readings]))
    away = [r.distance for r in readings if r.distance is not None]
    codes = sorted({r.code for r in readings if r.code})
    spread = ", ".join(f"{v:.2f}" for v in np.percentile(away, [0, 50, 100]))
    print(f"{what}: {part:.3f} refused {codes}; distance least, median, most {spread}")
    return part


def test_every_other_body_part_among_the_real_files_is_refused_by_its_pixels(
    reader: Reader, dicom_dir: Path, pydicom_file: Callable[[str], Path]
) -> None:
    paths = [p for p in sorted(dicom_dir.glob("*.dcm")) if p.name not in CHESTS] + [pydicom_file(n) for n in OTHERS]
    assert len(paths) >= 15
    answers = asked(reader, [read(path).pixels for path in paths])
    for path, reading in zip(paths, answers, strict=True):
        print(told(path.name, reading))
    accepted = [told(p.name, r) for p, r in zip(paths, answers, strict=True) if r.status != "refused"]
    assert not accepted
    assert {r.code for r in answers} <= {"gate", "out_of_distribution"}


def test_real_chest_films_of_other_sources_pass(
    reader: Reader, dicom_dir: Path, pydicom_file: Callable[[str], Path]
) -> None:
    paths = [*(dicom_dir / name for name in CHESTS), pydicom_file("RG1_UNCR.dcm")]
    answers = reader.read([read(path) for path in paths])
    for path, reading in zip(paths, answers, strict=True):
        print(told(path.name, reading))
    assert {r.status for r in answers} == {"analysed"}, [r.reason for r in answers]


def test_a_lower_leg_is_refused_by_its_header_first(reader: Reader, pydicom_file: Callable[[str], Path]) -> None:
    (reading,) = reader.read([read(pydicom_file("RG3_UNCR.dcm"))])
    assert (reading.status, reading.code) == ("refused", "body_part")


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_is_refused(reader: Reader, value: float) -> None:
    part = refused(asked(reader, [np.full((200, 160), value, np.float32)]), f"constant {value}")
    assert part == 1


@pytest.mark.parametrize("side", [64, 300, 1024])
def test_noise_is_refused(reader: Reader, side: int) -> None:
    rng = np.random.default_rng(side)
    pictures = [rng.random((side, side), np.float32), np.clip(rng.normal(0.5, 0.1, (side, side)), 0, 1)]
    part = refused(asked(reader, pictures), f"noise, {side} px")
    assert part == 1


def test_a_gradient_and_a_page_of_text_are_refused(reader: Reader) -> None:
    gradient = np.tile(np.linspace(0, 1, 300, dtype=np.float32), (300, 1))
    page = Image.new("L", (400, 500), 255)
    for row in range(20, 480, 16):
        ImageDraw.Draw(page).text((20, row), "The quick brown fox jumps over the lazy dog " * 2, fill=0)
    part = refused(asked(reader, [gradient, np.asarray(page, np.float32) / 255]), "gradient and text")
    assert part == 1


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("inverted", lambda film: 1 - film),
        ("turned by 90 degrees", lambda film: np.rot90(film)),
        ("turned by 180 degrees", lambda film: np.rot90(film, 2)),
        ("turned by 270 degrees", lambda film: np.rot90(film, 3)),
    ],
)
@pytest.mark.parametrize("films", ["nih", "tiny"])
def test_an_inverted_or_turned_film_is_refused(
    reader: Reader, request: pytest.FixtureRequest, films: str, name: str, spoil: Callable[[Floats], Floats]
) -> None:
    pictures = [np.ascontiguousarray(spoil(film)) for film in request.getfixturevalue(films)]
    part = refused(asked(reader, pictures), f"{films}, {name}")
    assert part >= 0.95


def test_at_least_98_of_100_real_chest_films_are_accepted(reader: Reader, nih: list[Floats]) -> None:
    part = refused(asked(reader, nih), "NIH films")
    assert part <= 0.02


def test_at_least_98_of_100_are_accepted_at_64_pixels(reader: Reader, nih: list[Floats], tiny: list[Floats]) -> None:
    small = [resize(film, height=64, width=64) for film in nih]
    part = refused(asked(reader, small), "NIH films brought to 64 px")
    assert part <= 0.02
    part = refused(asked(reader, tiny), "NIH films of another collection, 64 px")
    assert part <= 0.02
