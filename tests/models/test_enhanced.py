from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from models.enhanced import of_frame
from models.multiframe import Opened
from models.pixels import NotAnalysable, read, read_frames


def group(sequence: str, **values: Any) -> Dataset:
    item, inner = Dataset(), Dataset()
    for keyword, value in values.items():
        setattr(inner, keyword, value)
    setattr(item, sequence, [inner])
    return item


def test_a_single_image_is_its_own_frame() -> None:
    ds = Dataset()
    ds.RescaleSlope = 2
    single = of_frame(ds, 0)
    assert single == ds
    single.add_new("RescaleSlope", "DS", 3)
    assert ds.RescaleSlope == 2


def test_what_a_group_says_of_a_frame_counts() -> None:
    ds = Dataset()
    ds.RescaleSlope, ds.Rows = 9, 4
    ds.SharedFunctionalGroupsSequence = [group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=-5)]
    ds.PerFrameFunctionalGroupsSequence = [
        group("FrameVOILUTSequence", WindowCenter=c, WindowWidth=100) for c in (10, 20, 30)
    ]
    second = of_frame(ds, 1)
    assert (second.RescaleSlope, second.RescaleIntercept, second.WindowCenter, second.Rows) == (2, -5, 20, 4)
    assert ds.RescaleSlope == 9 and "WindowCenter" not in ds


def test_groups_that_are_missing_or_no_sequences_say_nothing() -> None:
    ds = Dataset()
    ds.RescaleSlope = 3
    ds.SharedFunctionalGroupsSequence = []
    ds.PerFrameFunctionalGroupsSequence = [Dataset()]
    assert of_frame(ds, 0).RescaleSlope == of_frame(ds, 7).RescaleSlope == 3


def test_frames_are_decoded_when_they_are_asked_for(
    pydicom_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    real = Opened.alone

    def alone(file: Opened, index: int) -> Dataset:
        decoded.append(index)
        return real(file, index)

    monkeypatch.setattr(Opened, "alone", alone)
    frames = read_frames(pydicom_file("emri_small.dcm"), [1, 5, 9])
    next(frames)
    assert decoded == [0]
    assert [getattr(f, "number", f) for f in frames] == [5, 9]
    assert decoded == [0, 4, 8]


@pytest.mark.parametrize(
    "name",
    [
        "emri_small.dcm",
        "emri_small_RLE.dcm",
        "emri_small_big_endian.dcm",
        "emri_small_jpeg_2k_lossless.dcm",
        "emri_small_jpeg_ls_lossless.dcm",
    ],
)
def test_the_frames_of_a_real_object_are_the_same_in_every_encoding(
    pydicom_file: Callable[[str], Path], name: str
) -> None:
    frames = list(read_frames(pydicom_file(name), [2, 10]))
    plain = dcmread(pydicom_file("emri_small.dcm"))
    for frame, number in zip(frames, (2, 10), strict=True):
        assert not isinstance(frame, NotAnalysable)
        assert frame.number == number
        values = plain.pixel_array[number - 1].astype(float)  # it names no window: its extremes are black and white
        assert frame.pixels == pytest.approx((values - values.min()) / np.ptp(values), abs=1e-5)


def test_an_enhanced_ct_is_rescaled_as_its_groups_say(pydicom_file: Callable[[str], Path]) -> None:
    path = pydicom_file("eCT_Supplemental.dcm")
    ds = dcmread(path)
    one = of_frame(ds, 1)
    assert (one.RescaleSlope, one.RescaleIntercept) == (1, -1024)
    (frame,) = read_frames(path, [2])
    assert not isinstance(frame, NotAnalysable)
    values = ds.pixel_array[1].astype(float) * float(one.RescaleSlope) + float(one.RescaleIntercept)
    low, width = one.WindowCenter - 0.5 - (one.WindowWidth - 1) / 2, one.WindowWidth - 1
    assert frame.pixels == pytest.approx(np.clip((values - low) / width, 0, 1), abs=1e-5)


def test_a_policy_reads_the_same_frame_as_its_number(pydicom_file: Callable[[str], Path]) -> None:
    path = pydicom_file("eCT_Supplemental.dcm")
    (second,) = read_frames(path, [2])
    assert not isinstance(second, NotAnalysable)
    assert np.array_equal(read(path, frames="middle").pixels, second.pixels)


def test_a_number_that_is_not_there_is_a_reason_and_the_next_one_is_read(pydicom_file: Callable[[str], Path]) -> None:
    none, zero, first = read_frames(pydicom_file("emri_small.dcm"), [11, 0, 1])
    assert isinstance(none, NotAnalysable) and none.reason == "The object has no frame 11; it holds 10."
    assert isinstance(zero, NotAnalysable)
    assert not isinstance(first, NotAnalysable)


def test_an_object_larger_than_the_budget_is_read_frame_by_frame(dicom: Callable[..., Path]) -> None:
    values = np.arange(40 * 64 * 64, dtype=np.uint16).reshape(40, 64, 64)
    path = dicom(values[0], bits=16, NumberOfFrames=40, PixelData=values.tobytes())
    budget = 64 * 64 * 4  # one frame as the model takes it; the file has twenty times as many bytes
    first, last = read_frames(path, [1, 40], budget_bytes=budget)
    assert not isinstance(first, NotAnalysable) and not isinstance(last, NotAnalysable)
    assert last.number == 40 and last.header.frames == 40
    assert np.array_equal(first.pixels, last.pixels)  # both run from their darkest to their brightest value


def test_a_compressed_object_above_the_budget_is_refused_as_a_whole(pydicom_file: Callable[[str], Path]) -> None:
    path = pydicom_file("emri_small_RLE.dcm")
    with pytest.raises(NotAnalysable) as refused:
        list(read_frames(path, [1], budget_bytes=path.stat().st_size - 1))
    assert refused.value.code == "too_large"


def test_unused_low_bits_are_removed_from_every_frame(dicom: Callable[..., Path]) -> None:
    values = np.arange(2 * 16, dtype=np.uint16).reshape(2, 4, 4) << 4
    path = dicom(values[0], bits=12, HighBit=15, NumberOfFrames=2, PixelData=values.tobytes())
    twin = dicom(values[0] >> 4, bits=12, NumberOfFrames=2, PixelData=(values >> 4).tobytes())
    for shifted, plain in zip(read_frames(path, [1, 2]), read_frames(twin, [1, 2]), strict=True):
        assert not isinstance(shifted, NotAnalysable) and not isinstance(plain, NotAnalysable)
        assert np.array_equal(shifted.pixels, plain.pixels)
