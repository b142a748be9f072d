"""Stepping over a header finds what pydicom finds, in every file at hand and in broken ones."""

from __future__ import annotations

import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom.data
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.pipeline import header
from node.pipeline.identify import READ, TAGS

HERE = Path(pydicom.data.__file__).parent
FILES = sorted(p for p in HERE.rglob("*") if p.is_file() and p.suffix in ("", ".dcm", ".DCM"))
SEED = 20260107


def outcome(read: Callable[[Path], header.Header], path: Path) -> Any:
    """The values that were found, or which kind of exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(path)
        except Exception as error:
            return type(error)


def mine(path: Path) -> header.Header:
    return header.read_attributes(path, READ)


def pydicoms(path: Path) -> header.Header:
    ds = dcmread(path, stop_before_pixels=True, specific_tags=list(READ))
    syntax = str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
    return header.Header(syntax, {e.tag: "" if e.value is None else str(e.value) for e in ds})


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_it_finds_what_pydicom_finds(path: Path) -> None:
    assert outcome(mine, path) == outcome(pydicoms, path)


def test_most_real_files_are_stepped_over() -> None:
    found = 0
    for path in FILES:
        try:
            header._stepped(path, READ)
            found += 1
        except Exception:
            continue
    assert found > len(FILES) / 2


def nested(depth: int) -> Dataset:
    ds = Dataset()
    ds.PatientID = f"inner {depth}"
    if depth:
        ds.ReferencedStudySequence = Sequence([nested(depth - 1), nested(0)])
        ds["ReferencedStudySequence"].is_undefined_length = depth % 2 == 0
        for item in ds.ReferencedStudySequence:
            item.is_undefined_length_sequence_item = depth % 3 == 0
    return ds


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_values_within_sequences_are_not_taken_for_the_image_s_own(tmp_path: Path, syntax: str) -> None:
    ds = nested(6)
    ds.PatientID, ds.PatientName, ds.Rows, ds.Columns = "outer", "Müller^Jörg", 3, 4
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "nested.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    found = header._stepped(path, READ).values
    assert [found[TAGS[k]] for k in ("PatientID", "PatientName", "Columns")] == ["outer", "Müller^Jörg", "4"]


def test_attributes_out_of_order_are_pydicom_s(tmp_path: Path, pydicom_file: Callable[[str], Path]) -> None:
    data = pydicom_file("CT_small.dcm").read_bytes()
    at = data.index(b"\x10\x00\x20\x00LO")
    size = 8 + int.from_bytes(data[at + 6 : at + 8], "little")
    element = data[at : at + size]
    pixels = data.index(b"\xe0\x7f\x10\x00OW")
    path = tmp_path / "late.dcm"
    path.write_bytes(data[:pixels] + element.replace(b"1CT1", b"9CT9") + data[pixels:])
    with pytest.raises(header._Odd):
        header._stepped(path, READ)
    assert mine(path).values[TAGS["PatientID"]] == "9CT9"


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def file_of(data_set: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    meta = element(2, 0x10, b"UI", syntax)
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<L", len(meta))) + meta + data_set


@pytest.mark.parametrize(
    "value", [b"A ", b" A", b"A\0", b"A \0 ", b"", b" ", b"A\\B", b"A=B", b"A==", b"^A^", b"~", b"\x1b$B", b"\xe4"]
)
@pytest.mark.parametrize("tag", ["PatientID", "PatientName", "Modality", "StudyInstanceUID", "StudyDate", "Rows"])
@pytest.mark.parametrize("named", [b"", b"ISO_IR 13", b"ISO 2022 IR 6\\ISO 2022 IR 87", b"ISO_IR 192", b"unheard of"])
def test_a_value_is_the_text_that_pydicom_makes_of_it(tmp_path: Path, value: bytes, tag: str, named: bytes) -> None:
    vr = dictionary_VR(TAGS[tag]).encode()
    path = tmp_path / "value.dcm"
    path.write_bytes(file_of(element(8, 5, b"CS", named) + element(*divmod(TAGS[tag], 0x10000), vr, value)))
    assert outcome(mine, path) == outcome(pydicoms, path)


@pytest.mark.parametrize("room", [*range(-120, 20, 3), 30_000])
def test_a_header_may_be_longer_than_what_is_read_of_it_first(tmp_path: Path, room: int) -> None:
    pixels = struct.pack("<HH2sxxL", 0x7FE0, 0x10, b"OW", 100) + bytes(100)
    behind = element(0x10, 0x20, b"LO", b"BEHIND") + element(0x28, 0x10, b"US", b"\2\0")
    before = file_of(b"")
    path = tmp_path / "long.dcm"
    path.write_bytes(
        file_of(
            element(9, 0x1001, b"LT", b"x" * (header.HEAD - len(before) + room)) + behind + pixels + bytes(header.HEAD)
        )
    )
    assert outcome(mine, path) == outcome(pydicoms, path)
    assert header._stepped(path, READ).values[TAGS["PatientID"]] == "BEHIND"


ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0" + bytes(4)
HIDDEN = element(0x10, 0x20, b"LO", b"EVIL")
GOOD = element(0x10, 0x20, b"LO", b"GOOD")


def implicit(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", group, number, len(value)) + value


def undefined(group: int, number: int) -> bytes:
    return struct.pack("<HHL", group, number, 0xFFFFFFFF)


@pytest.mark.parametrize(
    "data",
    [
        # an item that says to be shorter than its last element
        file_of(
            struct.pack("<HH2sxxL", 8, 0x1140, b"SQ", 0xFFFFFFFF)
            + ITEM
            + struct.pack("<L", 10)
            + struct.pack("<HH2sH", 8, 0x1155, b"UI", 2 + len(SEQUENCE_END + GOOD))
            + b"1\0"
            + SEQUENCE_END
            + GOOD
            + SEQUENCE_END
            + HIDDEN
        ),
        # no sequence, but with bytes of one
        file_of(
            undefined(8, 0x1030)
            + ITEM
            + struct.pack("<L", 0xFFFFFFFF)
            + implicit(8, 0x1155, SEQUENCE_END + implicit(0x10, 0x20, b"EVIL"))
            + b"\xfe\xff\x0d\xe0"
            + bytes(4)
            + SEQUENCE_END
            + implicit(0x10, 0x20, b"GOOD"),
            b"1.2.840.10008.1.2\0",
        ),
        # a length that looks like a VR
        file_of(implicit(8, 5, bytes(0x5A5A)) + implicit(0x10, 0x20, b"GOOD"), b"1.2.840.10008.1.2\0"),
        # a delimiter that belongs to nobody
        file_of(GOOD + b"\xfe\xff\x0d\xe0" + bytes(4) + element(0x20, 0xD, b"UI", b"1.2\0")),
    ],
    ids=["short item", "no sequence", "length like a VR", "stray delimiter"],
)
def test_nothing_can_be_hidden_from_one_of_the_two(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "hidden.dcm"
    path.write_bytes(data)
    assert outcome(mine, path) == outcome(pydicoms, path)


def test_what_is_broken_is_never_read_otherwise_than_pydicom_reads_it(
    tmp_path: Path, pydicom_file: Callable[[str], Path]
) -> None:
    rng = random.Random(SEED)
    for name in ("CT_small.dcm", "MR_small_implicit.dcm", "SC_rgb_small_odd.dcm"):
        whole = pydicom_file(name).read_bytes()[:6000]
        for number in range(150):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(128, len(data))
                match rng.randrange(3):
                    case 0:
                        del data[at : at + rng.randint(1, 9)]
                    case 1:
                        data = data[:at] if number % 10 == 0 else data
                    case _:
                        data[at] = rng.randrange(256)
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(data)
            assert outcome(mine, path) == outcome(pydicoms, path), (name, number)
