from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from slices_made import enhanced, series

from node.domain import Instance, InstanceState
from node.pipeline import frames
from node.pipeline.frames import Chosen, choose

STUDY = generate_uid()


def members(paths: Sequence[Path]) -> tuple[list[Instance], dict[int, Any]]:
    """Rows and headers of files, as routing has them."""
    headers = {n: dcmread(p, specific_tags=list(frames.KEYWORDS)) for n, p in enumerate(paths)}
    rows = []
    for n, path in enumerate(paths):
        ds = dcmread(path, stop_before_pixels=True)
        uids = str(ds.SOPInstanceUID), str(ds.SOPClassUID), str(ds.SeriesInstanceUID)
        rows.append(Instance(n, 1, *uids, "", "CT", "", 0, path, InstanceState.CURRENT, 1, (), "", 0.0))
    return rows, headers


def chosen(policy: str, paths: Sequence[Path], **more: Any) -> Chosen:
    rows, headers = members(paths)
    return choose(policy, rows, headers, **more)


def sentence(policy: str, paths: Sequence[Path], **more: Any) -> str:
    (choice,) = chosen(policy, paths, **more).choices
    return choice.sentence


def test_every_nth_slice_is_read_from_the_first_on(tmp_path: Path) -> None:
    said = sentence("every:24", series(tmp_path, 120, study=STUDY))
    assert said == (
        "Read 5 of 120 images of this series: instance numbers 1, 25, 49, 73, 97, in the order of their positions."
    )


def test_the_middle_slice_is_one(tmp_path: Path) -> None:
    said = sentence("middle", series(tmp_path, 5, study=STUDY))
    assert said == "Read 1 of 5 images of this series: instance number 3, in the order of their positions."


def test_slices_are_ordered_by_position_whatever_their_numbers(tmp_path: Path) -> None:
    paths = series(tmp_path, 5, study=STUDY, InstanceNumber=lambda i: [9, 2, 4, 1, 7][i])
    assert "instance number 4," in sentence("middle", paths)


def test_along_an_oblique_normal_too(tmp_path: Path) -> None:
    oblique = [1, 0, 0, 0, 0.8, 0.6]  # its normal is (0, -0.6, 0.8)
    paths = series(
        tmp_path,
        5,
        study=STUDY,
        ImageOrientationPatient=oblique,
        ImagePositionPatient=lambda i: [0, -0.6 * (4 - i), 0.8 * (4 - i)],
    )
    assert sentence("every:2", paths).startswith("Read 3 of 5 images of this series: instance numbers 5, 3, 1,")


@pytest.mark.parametrize(
    "changed",
    [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
        {"ImagePositionPatient": lambda _: [0, 0, 10]},  # a dynamic series at one place
        {"ImageOrientationPatient": lambda i: [1, 0, 0, 0, 1, 0] if i % 2 else [0, 1, 0, 0, 0, 1]},
        {"ImageOrientationPatient": lambda _: [1, 0, 0, 1, 0, 0]},  # rows and columns that run the same way
    ],
    ids=["no position", "no orientation", "one place", "two directions", "no plane"],
)
def test_what_is_no_stack_is_ordered_by_instance_number(tmp_path: Path, changed: dict[str, Any]) -> None:
    paths = series(tmp_path, 5, study=STUDY, **({"InstanceNumber": lambda i: 50 - i} | changed))
    assert sentence("middle", paths).endswith("instance number 48, in the order of their instance numbers.")


def test_without_numbers_the_uids_decide(tmp_path: Path) -> None:
    uids = [f"1.2.3.{n}" for n in (30, 10, 20)]
    paths = series(
        tmp_path, 3, study=STUDY, InstanceNumber=None, ImagePositionPatient=None, SOPInstanceUID=uids.__getitem__
    )
    assert sentence("middle", paths) == (
        "Read 1 of 3 images of this series: SOP Instance UID 1.2.3.20, in the order of their SOP Instance UIDs."
    )


def test_the_order_of_arrival_changes_nothing(tmp_path: Path) -> None:
    paths = series(tmp_path, 20, study=STUDY)
    before = chosen("every:3", paths).choices
    random.Random(1).shuffle(paths)
    assert chosen("every:3", paths).choices == before


def test_each_series_has_its_own_choice_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    paths = [*series(tmp_path, 4, study=STUDY, number=12), *series(tmp_path, 3, study=STUDY, number=2)]
    found = chosen("middle", paths)
    assert [choice.name for choice in found.choices] == ["series 2", "series 12"]
    assert found.sentence.startswith("series 2: Read 1 of 3 images of this series: instance number 2")
    assert sorted(found.left_out.values()) == [frames.NOT_CHOSEN] * 5


def test_localisers_are_left_out_with_a_reason(tmp_path: Path) -> None:
    scout = series(tmp_path, 2, study=STUDY, number=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    slices = series(tmp_path, 3, study=STUDY, number=2)
    found = chosen("middle", [*scout, *slices])
    assert [choice.name for choice in found.choices] == ["series 2"]
    assert found.sentence.endswith("; 2 left out: a localiser")
    assert chosen("middle", scout).choices == ()


def test_what_is_not_on_the_node_any_more_is_counted(tmp_path: Path) -> None:
    paths = series(tmp_path, 3, study=STUDY)
    rows, headers = members(paths)
    (choice,) = choose("middle", rows[:1], headers, gone=rows[1:]).choices
    assert choice.sentence.endswith("instance number 1. 2 more of the series are not on the node any more.")


def test_a_multi_frame_object_counts_as_its_frames(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "e.dcm", 9, study=STUDY)
    (choice,) = chosen("every:4", [path]).choices
    assert choice.sentence == "Read frames 1, 5, 9 of 9 of this series, in the order of their positions."
    assert choice.frames == {str(dcmread(path).SOPInstanceUID): (1, 5, 9)}
    assert choice.name == "series 7"


def test_frames_are_ordered_by_position_too(tmp_path: Path) -> None:
    path = enhanced(tmp_path / "e.dcm", 5, study=STUDY, order=[4, 0, 3, 1, 2])
    assert sentence("middle", [path]).startswith("Read frame 5 of 5")


def test_two_multi_frame_objects_of_a_series_are_told_apart(tmp_path: Path) -> None:
    uid = generate_uid()
    first = enhanced(tmp_path / "a.dcm", 4, study=STUDY, SeriesInstanceUID=uid, order=[0, 1, 2, 3])
    second = enhanced(tmp_path / "b.dcm", 4, study=STUDY, SeriesInstanceUID=uid, order=[4, 5, 6, 7], InstanceNumber=2)
    assert sentence("every:3", [second, first]).startswith(
        "Read 3 of 8 frames of this series: instance number 1 frames 1, 4; instance number 2 frames 3,"
    )


def test_a_header_that_claims_a_billion_frames_costs_nothing(tmp_path: Path) -> None:
    (path,) = series(tmp_path, 1, study=STUDY, NumberOfFrames=1_000_000_000)
    found = chosen("every:1", [path])
    assert found.choices == ()
    assert found.sentence == "1 left out: it claims to hold more than 20000 frames"


@pytest.mark.parametrize("keyword", ["InstanceNumber", "SeriesNumber", "NumberOfFrames"])
def test_a_number_that_is_none_counts_as_absent(tmp_path: Path, keyword: str, damaged: Callable[..., Path]) -> None:
    (path,) = series(tmp_path, 1, study=STUDY, **{keyword: 11})
    rows, headers = members([damaged(path, keyword, b"a1")])
    (choice,) = choose("middle", rows, headers).choices
    assert choice.sentence.startswith("Read 1 of 1 images of this series")


@pytest.fixture
def damaged() -> Callable[..., Path]:
    """A file one value of which is other bytes of the same length."""

    def make(path: Path, keyword: str, value: bytes) -> Path:
        from pydicom.datadict import tag_for_keyword

        tag = tag_for_keyword(keyword) or 0
        start = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + b"IS\x02\x00"
        data = path.read_bytes()
        assert data.count(start) == 1
        at = data.index(start) + len(start)
        path.write_bytes(data[:at] + value + data[at + len(value) :])
        return path

    return make


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("emri_small.dcm", "Read frame 6 of 10 of this series, in the order of their numbers."),
        ("eCT_Supplemental.dcm", "Read frame 1 of 2 of this series, in the order of their positions."),
        ("CT_small.dcm", "Read 1 of 1 images of this series: instance number 1."),
    ],
)
def test_real_files_are_chosen_from(pydicom_file: Callable[[str], Path], name: str, said: str) -> None:
    assert sentence("middle", [pydicom_file(name)]) == said
