"""Multipart messages as servers write them, cut into pieces of every size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from shelf_made import BOUNDARY, message, object_of

from node.errors import BrokenMessage, SpoolError
from node.network.parts import files
from node.network.webget import Body

QUOTED = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
OBJECTS = (object_of("1.2"), object_of("1.2", 20), object_of("1.2", 3000))


def body(data: bytes, *, content_type: str = QUOTED, size: int = 1 << 16, framed: bool = True) -> Body:
    return Body(200, content_type, framed, iter([data[at : at + size] for at in range(0, len(data), size)]))


def read(folder: Path, said: Body, limit: int = 1 << 20) -> list[bytes | None]:
    found = []
    for path in files(said, folder=folder, limit=limit):
        found.append(path.read_bytes() if path else None)
        if path:
            path.unlink()
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 1 << 16])
def test_each_part_is_a_file_however_the_message_is_cut(tmp_path: Path, size: int) -> None:
    assert read(tmp_path, body(message(*OBJECTS), size=size)) == list(OBJECTS)


@pytest.mark.parametrize(
    "content_type",
    [
        f"multipart/related; boundary={BOUNDARY}",
        f"Multipart/Related;boundary=\"{BOUNDARY}\"; type='application/dicom'",
        f'multipart/related; type="application/dicom"; start="<1>"; BOUNDARY="{BOUNDARY}"',
    ],
)
def test_the_boundary_is_found_however_it_is_written(tmp_path: Path, content_type: str) -> None:
    assert read(tmp_path, body(message(*OBJECTS), content_type=content_type)) == list(OBJECTS)


def test_a_boundary_may_hold_all_that_it_may(tmp_path: Path) -> None:
    odd = "a'()+_,-./:=? b;c"
    said = body(message(*OBJECTS, boundary=odd), content_type=f'multipart/related; boundary="{odd}"', size=5)
    assert read(tmp_path, said) == list(OBJECTS)


@pytest.mark.parametrize("size", [1, 10, 1 << 16])
@pytest.mark.parametrize(
    "before", [b"\r\n", b"This is a multi-part message - in MIME\r\n", b"a\r\n--b\r\n--\r\n", b"\n\r\n"]
)
def test_what_comes_before_the_first_boundary_is_no_part(tmp_path: Path, before: bytes, size: int) -> None:
    assert read(tmp_path, body(message(*OBJECTS, before=before), size=size)) == list(OBJECTS)


def test_what_comes_after_the_last_boundary_is_no_part(tmp_path: Path) -> None:
    assert read(tmp_path, body(message(*OBJECTS) + b"\r\nepilogue\r\n--")) == list(OBJECTS)


def test_a_message_without_parts_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, body(message())) == []


def test_an_object_alone_is_a_message_of_one(tmp_path: Path) -> None:
    assert read(tmp_path, body(OBJECTS[2], content_type="application/dicom", size=100)) == [OBJECTS[2]]


def test_what_is_too_long_is_not_kept_and_the_others_are(tmp_path: Path) -> None:
    longest = max(map(len, OBJECTS))
    assert read(tmp_path, body(message(*OBJECTS), size=100), limit=longest - 1) == [*OBJECTS[:2], None]
    assert read(tmp_path, body(message(*OBJECTS), size=100), limit=longest) == list(OBJECTS)
    alone = body(OBJECTS[2], content_type="application/dicom", size=100)
    assert read(tmp_path, alone, limit=longest - 1) == [None]


@pytest.mark.parametrize("lost", [1, 2, 4, 10, 200])
def test_a_part_whose_end_does_not_come_is_none(tmp_path: Path, lost: int) -> None:
    found = []
    with pytest.raises(BrokenMessage, match="ends before its last boundary"):
        for path in files(body(message(*OBJECTS).rstrip()[:-lost]), folder=tmp_path, limit=1 << 20):
            assert path
            found.append(path.read_bytes())
            path.unlink()
    assert found == list(OBJECTS[:2])


@pytest.mark.parametrize(
    ("content_type", "framed", "words"),
    [
        ("multipart/related", True, "without its boundary"),
        ("text/html; charset=utf-8", True, "answers with text/html in place of DICOM objects"),
        ("", True, "answers with nothing in place of DICOM objects"),
        ("application/dicom", False, "without its length"),
        (f"multipart/related; boundary={'b' * 300}", True, "cannot be read"),
    ],
)
def test_what_is_no_message_is_not_read(tmp_path: Path, content_type: str, framed: bool, words: str) -> None:
    with pytest.raises(BrokenMessage, match=words):
        read(tmp_path, body(message(*OBJECTS), content_type=content_type, framed=framed))


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * 100_000,
        b"\r\n".join(b"X%d: a" % n for n in range(1000)),
        b"no header at all",
    ],
)
def test_headers_of_a_part_are_bounded_and_read_strictly(tmp_path: Path, head: bytes) -> None:
    said = f"--{BOUNDARY}\r\n".encode() + head + b"\r\n\r\n" + OBJECTS[0] + f"\r\n--{BOUNDARY}--".encode()
    with pytest.raises(BrokenMessage, match="cannot be read"):
        read(tmp_path, body(said))


def test_a_file_that_cannot_be_made_is_our_fault(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="an instance cannot be written: No such file"):
        read(tmp_path / "gone", body(message(*OBJECTS)))


def test_who_stops_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    found = files(body(message(*OBJECTS)), folder=tmp_path, limit=1 << 20)
    first = next(found)
    assert first
    first.unlink()
    found.close()  # type: ignore[attr-defined]
