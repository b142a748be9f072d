from typing import Any

import numpy as np
import pytest
from films_made import dataset, film
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from models import grey
from models.refusal import NotAnalysable


def shown(values: NDArray[Any], **attributes: Any) -> NDArray[np.float32]:
    return grey.of_dataset(values, dataset(values, bits=16, **attributes))


RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


def lut(first: int, data: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first, 16])
    item.add_new("LUTData", "US", data)
    item.add_new("ModalityLUTType", "LO", "US")
    return item


def test_without_a_window_the_extremes_become_black_and_white() -> None:
    got = shown(RAMP + 1000)
    assert got.min() == 0 and got.max() == 1
    assert np.allclose(got, RAMP / 255)


def test_a_linear_window_follows_the_standards_formula() -> None:
    got = shown(RAMP, WindowCenter=100, WindowWidth=51)
    # PS3.3 C.11.2.1.2.1
    expected = np.clip((RAMP.astype(float) - (100 - 0.5)) / (51 - 1) + 0.5, 0, 1)
    assert np.allclose(got, expected, atol=1e-6)


def test_a_linear_exact_window_and_a_sigmoid_follow_theirs() -> None:
    exact = shown(RAMP, WindowCenter=100, WindowWidth=50, VOILUTFunction="LINEAR_EXACT")
    assert np.allclose(exact, np.clip((RAMP.astype(float) - 100) / 50 + 0.5, 0, 1), atol=1e-6)
    sigmoid = shown(RAMP, WindowCenter=100, WindowWidth=50, VOILUTFunction="SIGMOID")
    assert np.allclose(sigmoid, 1 / (1 + np.exp(-4 * (RAMP.astype(float) - 100) / 50)), atol=1e-6)


@pytest.mark.parametrize(
    ("centre", "width"),
    [(100, 0), (100, -5), (100, 1), (90_000, 10), ("", ""), (1e300, 1e300), (0, 1e300), (3e38, 3e38)],
)
def test_a_window_that_cannot_be_used_counts_as_none(centre: Any, width: Any) -> None:
    assert np.allclose(shown(RAMP, WindowCenter=centre, WindowWidth=width), RAMP / 255)


def test_the_first_of_several_windows_is_used() -> None:
    several = shown(RAMP, WindowCenter=[100, 10], WindowWidth=[51, 5])
    assert np.allclose(several, shown(RAMP, WindowCenter=100, WindowWidth=51))


def test_monochrome1_is_inverted_after_the_window() -> None:
    window = {"WindowCenter": 60, "WindowWidth": 51}
    assert np.allclose(shown(RAMP, PhotometricInterpretation="MONOCHROME1", **window), 1 - shown(RAMP, **window))


def test_rescale_comes_before_the_window() -> None:
    signed = RAMP.astype(np.int16) - 128
    got = shown(signed, RescaleSlope=2, RescaleIntercept=-50, WindowCenter=0, WindowWidth=101)
    assert np.allclose(got, np.clip((signed * 2.0 - 50 + 0.5) / 100 + 0.5, 0, 1), atol=1e-5)
    assert np.allclose(shown(RAMP, RescaleSlope=0, RescaleIntercept=7), RAMP / 255), "a slope of 0 erases nothing"


def test_look_up_tables_are_applied() -> None:
    negative = list(range(255, -1, -1))
    assert np.allclose(shown(RAMP, ModalityLUTSequence=Sequence([lut(0, negative)])), 1 - RAMP / 255)
    assert np.allclose(shown(RAMP, VOILUTSequence=Sequence([lut(0, negative)])), 1 - RAMP / 255)


def test_a_damaged_look_up_table_is_a_reason() -> None:
    with pytest.raises(NotAnalysable, match="look-up table"):
        shown(RAMP, ModalityLUTSequence=Sequence([Dataset()]))


def test_padding_takes_no_part_and_is_black() -> None:
    values = film(bits=12)
    values[:8] = 60_000
    padded = shown(values, PixelPaddingValue=60_000)
    assert np.allclose(padded[8:], grey.spread(values[8:], None))
    assert (padded[:8] == 0).all()
    inverted = shown(values, PixelPaddingValue=60_000, PhotometricInterpretation="MONOCHROME1")
    assert (inverted[:8] == 0).all()


def test_a_padding_range_counts_as_a_whole() -> None:
    values = film(bits=12)
    values[:4], values[4:8] = 59_000, 60_000
    got = shown(values, PixelPaddingValue=60_000, PixelPaddingRangeLimit=58_000)
    assert (got[:8] == 0).all() and got[8:].max() == 1


def test_a_constant_image_is_black_and_finite() -> None:
    flat = np.full((16, 16), 7, np.uint16)
    for window in ({}, {"WindowCenter": 7, "WindowWidth": 0}, {"PixelPaddingValue": 7}):
        assert (shown(flat, **window) == 0).all()


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_look_up_table_that_ends_early_is_a_reason(keyword: str) -> None:
    short = lut(0, list(range(256)))
    for vr, data in (("OW", b"\0\1" * 100), ("OW", b"\0\1\2"), ("US", list(range(100)))):
        short.add_new("LUTData", vr, data)
        with pytest.raises(NotAnalysable, match="look-up table") as caught:
            shown(RAMP, **{keyword: Sequence([short])})
        assert caught.value.code == "undecodable"


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_table_of_8_bits_has_one_entry_in_a_byte_or_in_a_word(keyword: str) -> None:
    negative = np.arange(255, -1, -1)
    for vr, data in (
        ("OW", negative.astype(np.uint8).tobytes()),
        ("US", negative.astype(np.uint8).view("<u2").tolist()),
        ("OW", negative.astype("<u2").tobytes()),
    ):
        table = lut(0, negative.tolist())
        table.LUTDescriptor = [256, 0, 8]
        table.add_new("LUTData", vr, data)
        assert np.allclose(shown(RAMP, **{keyword: Sequence([table])}), 1 - RAMP / 255)


def test_a_table_that_begins_later_holds_its_ends() -> None:
    table = lut(100, list(range(50)))
    expected = np.clip(RAMP.astype(float) - 100, 0, 49) / 49
    assert np.allclose(shown(RAMP, VOILUTSequence=Sequence([table])), expected)


def test_a_rescaling_out_of_range_is_a_reason() -> None:
    with pytest.raises(NotAnalysable, match="out of range"):
        shown(RAMP, RescaleSlope=3e38, RescaleIntercept=0)
    assert np.allclose(shown(RAMP, RescaleSlope=1e300, RescaleIntercept=0), RAMP / 255), "counts as absent"
