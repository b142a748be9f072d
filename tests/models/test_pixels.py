from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films_made import film
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from models import preprocess
from models.pixels import NotAnalysable, decoded_equal, read
from models.preprocess import Step

NETWORK = (Step("resize", {"height": 32, "width": 32}), Step("stretch", {"low": 0.5, "high": 99.5}))
Writer = Callable[..., Path]


def seen(path: Path) -> NDArray[np.float32]:
    """What a network would see of a file."""
    return preprocess.run(NETWORK, read(path).pixels)


def refused(path: Path, **options: Any) -> NotAnalysable:
    with pytest.raises(NotAnalysable) as caught:
        read(path, **options)
    assert caught.value.reason.endswith("."), "a sentence"
    return caught.value


def test_a_film_is_grey_from_0_to_1_and_its_header_comes_with_it(dicom: Writer) -> None:
    frame = read(dicom(film(), PatientAge="044Y", ViewPosition="PA", BodyPartExamined="CHEST"))
    assert frame.pixels.dtype == np.float32 and frame.pixels.shape == (64, 64)
    assert frame.pixels.min() == 0 and frame.pixels.max() == 1
    assert (frame.header.age_years, frame.header.view_position, frame.header.rows) == (44, "PA", 64)
    assert (frame.number, frame.frames_used) == (1, "single")


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_same_film_looks_the_same_in_every_encoding(
    dicom: Writer, tmp_path: Path, bits: int, photometric: str
) -> None:
    picture = tmp_path / "film.png"
    Image.fromarray(film(bits=8).astype(np.uint8)).save(picture)
    values = film(bits=bits)
    if photometric == "MONOCHROME1":
        values = np.asarray(2**bits - 1 - values.astype(int), np.uint16)
    stored = values.astype(np.uint8) if bits == 8 else values
    path = dicom(stored, bits=bits, PhotometricInterpretation=photometric)
    assert np.abs(seen(path) - seen(picture)).max() < 0.01


def test_a_16_bit_png_and_a_jpeg_look_like_the_film(tmp_path: Path) -> None:
    eight, sixteen, jpeg = tmp_path / "8.png", tmp_path / "16.png", tmp_path / "film.jpg"
    Image.fromarray(film(bits=8).astype(np.uint8)).save(eight)
    Image.fromarray(film(bits=16)).save(sixteen)
    Image.fromarray(film(bits=8).astype(np.uint8)).save(jpeg, quality=95)
    assert np.abs(seen(eight) - seen(sixteen)).max() < 0.01
    assert np.abs(seen(eight) - seen(jpeg)).max() < 0.05


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_a_lossless_re_encoding_has_equal_pixels(dicom: Writer, tmp_path: Path, syntax: str) -> None:
    plain = dicom(film())
    ds = dcmread(plain)
    ds.compress(syntax, generate_instance_uid=False)
    packed = tmp_path / "packed.dcm"
    ds.save_as(packed)
    assert np.array_equal(read(plain).pixels, read(packed).pixels)
    assert decoded_equal(plain, packed)


def test_one_different_pixel_is_no_re_encoding(dicom: Writer) -> None:
    other = film()
    other[3, 3] ^= 1
    assert not decoded_equal(dicom(film()), dicom(other))
    assert not decoded_equal(dicom(film()), dicom(film(), PhotometricInterpretation="MONOCHROME1"))
    assert not decoded_equal(dicom(film()), dicom(film(32)))


def test_what_cannot_be_decoded_is_not_known_to_be_equal(dicom: Writer) -> None:
    broken = dicom(film(), Rows=65)
    with pytest.raises(NotAnalysable, match="ends early"):
        decoded_equal(broken, broken)


def test_a_truncated_file_is_not_analysable(dicom: Writer, tmp_path: Path) -> None:
    whole = dicom(film()).read_bytes()
    short = tmp_path / "short.dcm"
    short.write_bytes(whole[:-500])
    assert refused(short).code == "truncated"
    assert refused(dicom(film(), Rows=65)).code == "truncated"


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_broken_off_codestream_is_truncated_and_never_padded(dicom: Writer, tmp_path: Path, syntax: str) -> None:
    ds = dcmread(dicom(film()))
    ds.compress(syntax, generate_instance_uid=False)
    from pydicom.encaps import get_frame

    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    ds.PixelData = encapsulate([frame[: len(frame) // 2]])
    path = tmp_path / "half.dcm"
    ds.save_as(path)
    assert refused(path).code == "truncated"


def test_a_codestream_that_declares_gigabytes_is_refused_before_it_is_decoded(dicom: Writer, tmp_path: Path) -> None:
    ds = dcmread(dicom(film()))
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    from pydicom.encaps import get_frame

    frame = bytearray(get_frame(ds.PixelData, 0, number_of_frames=1))
    frame[8:16] = (60_000).to_bytes(4, "big") * 2  # Xsiz, Ysiz
    ds.PixelData = encapsulate([bytes(frame)])
    path = tmp_path / "bomb.dcm"
    ds.save_as(path)
    assert refused(path).code == "too_large"


def test_an_rle_segment_that_expands_without_end_is_refused_and_bounded(dicom: Writer, tmp_path: Path) -> None:
    """The decoder panics in Rust there, which is no Exception: it must not end the process."""
    segment = bytes([129, 7]) * 100_000
    start = np.zeros(16, "<u4")
    start[:3] = 2, 64, 64 + len(segment)
    ds = dcmread(dicom(film()))
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.PixelData = encapsulate([start.tobytes() + segment * 2])
    ds["PixelData"].is_undefined_length = True
    path = tmp_path / "bomb.dcm"
    ds.save_as(path)
    assert refused(path).code == "undecodable"


def test_a_header_that_asks_for_more_than_the_budget_is_refused(dicom: Writer) -> None:
    path = dicom(film(), Rows=60_000, Columns=60_000)
    assert refused(path).code == "too_large"
    assert refused(dicom(film()), budget_bytes=2000).code == "too_large"


def test_a_large_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (4000, 3000)).save(path)
    assert refused(path, budget_bytes=1024**2).code == "too_large"


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, MPEG2MPML])
def test_a_deflated_or_video_syntax_is_refused_unread(dicom: Writer, tmp_path: Path, syntax: str) -> None:
    path = tmp_path / "other.dcm"
    ds = dcmread(dicom(film()))
    content = dicom(film()).read_bytes()
    old = str(ds.file_meta.TransferSyntaxUID).encode()
    new = str(syntax).encode()
    assert len(new) + len(new) % 2 >= len(old)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == MPEG2MPML:
        ds.PixelData = encapsulate([b"\0" * 100])
        ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
    assert content != path.read_bytes()
    found = refused(path)
    assert found.code == "unsupported" and "transfer syntax" in found.reason


def test_text_and_empty_files_are_not_dicom(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\0" * 128 + b"DICM" + b"\1" * 40):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert refused(path).code in ("not_dicom", "unsupported")


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        read(tmp_path / "gone.dcm")


def test_an_object_without_pixels_is_refused(dicom: Writer) -> None:
    path = dicom(film())
    ds = dcmread(path)
    del ds.PixelData
    ds.save_as(path)
    assert refused(path).code == "no_pixels"
    del ds.Rows
    ds.save_as(path)
    assert refused(path).code == "no_pixels"


def test_frames_are_chosen_by_policy_only(dicom: Writer) -> None:
    stack = np.concatenate([film() // 4, film() // 2, film()])
    path = dicom(stack, Rows=64, NumberOfFrames=3)
    assert refused(path).code == "multi_frame"
    first, middle = read(path, frames="first"), read(path, frames="middle")
    assert (first.number, middle.number, middle.frames_used) == (1, 2, "middle")
    with pytest.raises(ValueError, match="policy"):
        read(path, frames="last")


def test_colour_is_refused_and_grey_stored_as_rgb_is_not(dicom: Writer, tmp_path: Path) -> None:
    grey = np.repeat(film(bits=8).astype(np.uint8)[..., None], 3, axis=2)
    rgb = {"bits": 8, "PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    assert np.abs(read(dicom(grey, **rgb)).pixels - read(dicom(film())).pixels).max() < 0.01
    tinted = grey.copy()
    tinted[:9, :9, 0] = 255
    assert refused(dicom(tinted, **rgb)).code == "colour"
    picture = tmp_path / "tinted.png"
    Image.fromarray(tinted).save(picture)
    assert refused(picture).code == "colour"


def test_an_opaque_rgba_png_is_grey_and_a_transparent_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    picture = Image.fromarray(film(bits=8).astype(np.uint8)).convert("RGBA")
    picture.save(path)
    assert read(path).pixels.shape == (64, 64)
    picture.putalpha(100)
    picture.save(path)
    assert refused(path).code == "unsupported"


def test_a_damaged_png_is_not_analysable(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    Image.fromarray(film(bits=8).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert refused(path).code in ("truncated", "undecodable")


def test_a_palette_and_odd_bits_are_refused(dicom: Writer) -> None:
    assert (
        refused(dicom(film(bits=8).astype(np.uint8), bits=8, PhotometricInterpretation="PALETTE COLOR")).code
        == "colour"
    )
    assert refused(dicom(film(), BitsStored=17)).code == "unsupported"


def test_bits_above_and_below_the_stored_ones_are_ignored(dicom: Writer) -> None:
    clean, junk = dicom(film()), dicom(film() | 0xF000)
    assert np.array_equal(read(clean).pixels, read(junk).pixels)
    raised = dicom(film() << 4 | 0x7, HighBit=15)
    assert np.array_equal(read(clean).pixels, read(raised).pixels)


def test_a_reason_survives_being_sent_to_another_process() -> None:
    import pickle

    again = pickle.loads(pickle.dumps(NotAnalysable("colour", "It is in colour.")))
    assert (again.code, again.reason, str(again)) == ("colour", "It is in colour.", "It is in colour.")
    with pytest.raises(ValueError, match="no such reason"):
        NotAnalysable("other", "Never.")


@pytest.mark.data
def test_a_dicom_file_and_its_png_twin_look_the_same(dicom_dir: Path, tmp_path: Path) -> None:
    """A real 12 bit JPEG 2000 MONOCHROME1 film against what a viewer would export of it."""
    path = dicom_dir / "966_fixed.dcm"
    twin = tmp_path / "twin.png"
    Image.fromarray(np.rint(read(path).pixels * 255).astype(np.uint8)).save(twin)
    assert np.abs(seen(path) - seen(twin)).max() < 0.01


@pytest.mark.data
def test_the_monochrome1_twin_of_a_real_film_is_inverted_twice(dicom_dir: Path) -> None:
    """Fake_MONOHR1 keeps the values and only says MONOCHROME1: it must come out as the negative."""
    names = ("1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm", "Fake_MONOHR1.dcm")
    film_, negative = (read(dicom_dir / n).pixels for n in names)
    assert np.abs(film_ + negative - 1).max() < 0.01


@pytest.mark.data
def test_every_real_file_is_read_or_refused_with_a_reason(dicom_dir: Path) -> None:
    for path in sorted(dicom_dir.glob("*.dcm")):
        try:
            pixels = read(path).pixels
        except NotAnalysable as refusal:
            pytest.fail(f"{path.name}: {refusal.code} {refusal.reason}")
        assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1


def test_jpeg_baseline_counts_as_lossy(dicom: Writer, tmp_path: Path) -> None:
    import io

    buffer = io.BytesIO()
    Image.fromarray(film(bits=8).astype(np.uint8)).save(buffer, "JPEG")
    path = dicom(film(bits=8).astype(np.uint8), bits=8)
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate([buffer.getvalue()])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
    assert read(path).header.lossy
    assert not read(dicom(film())).header.lossy


def test_an_extended_offset_table_cannot_smuggle_a_frame_past_the_check(dicom: Writer, tmp_path: Path) -> None:
    """The table points at a codestream that is hidden behind the one that the items give."""
    from pydicom.encaps import get_frame

    ds = dcmread(dicom(film()))
    honest = dcmread(dicom(film()))
    for each, values in ((honest, film()), (ds, np.ascontiguousarray(film()[::-1]))):
        each.PixelData = values.tobytes()
        each.compress(JPEG2000Lossless, generate_instance_uid=False)
    seen_, hidden = (get_frame(each.PixelData, 0, number_of_frames=1) for each in (honest, ds))
    seen_, hidden = (f + b"\0" * (len(f) % 2) for f in (seen_, hidden))
    ds.PixelData = encapsulate([hidden, seen_], has_bot=False)
    ds.NumberOfFrames = 2
    ds.ExtendedOffsetTable = (8 + len(hidden)).to_bytes(8, "little") + bytes(8)
    ds.ExtendedOffsetTableLengths = len(seen_).to_bytes(8, "little") + len(hidden).to_bytes(8, "little")
    path = tmp_path / "table.dcm"
    ds.save_as(path)
    assert np.array_equal(read(path, frames="first").pixels, read(dicom(film()[::-1].copy())).pixels)


def test_a_decoy_in_a_box_does_not_hide_the_size_of_the_codestream(dicom: Writer, tmp_path: Path) -> None:
    from pydicom.encaps import get_frame

    ds = dcmread(dicom(film()))
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    small = get_frame(ds.PixelData, 0, number_of_frames=1)
    large = bytearray(small)
    large[8:16] = (60_000).to_bytes(4, "big") * 2  # Xsiz, Ysiz
    boxes = b"".join((8 + len(c)).to_bytes(4, "big") + k + c for k, c in ((b"uuid", small), (b"jp2c", bytes(large))))
    ds.PixelData = encapsulate([b"\x00\x00\x00\x0cjP  \r\n\x87\n" + boxes])
    path = tmp_path / "decoy.dcm"
    ds.save_as(path)
    assert refused(path).code == "too_large"


def test_pixels_that_are_no_number_are_refused(dicom: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    from models import grey

    monkeypatch.setattr(grey, "of_dataset", lambda stored, ds: np.full(stored.shape, np.nan, np.float32))
    assert refused(dicom(film())).code == "undecodable"
