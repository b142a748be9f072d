import struct

import pytest

from models import codestream


def jpeg(rows: int, columns: int, *, marker: int = 0xC0, bits: int = 8) -> bytes:
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"\xff\xc0" * 7
    frame = b"\xff" + bytes([marker]) + struct.pack(">HBHHB", 11, bits, rows, columns, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + app + frame + b"\xff\xd9"


def jpeg2000(rows: int, columns: int, *, x0: int = 0, y0: int = 0) -> bytes:
    siz = struct.pack(">HH8IHBBB", 41, 0, columns + x0, rows + y0, x0, y0, columns, rows, 0, 0, 1, 11, 1, 1)
    return b"\xff\x4f\xff\x51" + siz + b"\xff\xd9"


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC3, 0xF7])
def test_a_jpeg_says_its_size_in_its_frame_header_and_not_in_its_application_data(marker: int) -> None:
    size = codestream.jpeg_size(jpeg(30, 70, marker=marker, bits=12))
    assert (size.rows, size.columns, size.samples, size.bits) == (30, 70, 1, 12)


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


SIGNED = codestream.JP2_SIGNATURE + box(b"ftyp", b"jp2 " * 3)


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        SIGNED + box(b"jp2c"),
        SIGNED + b"\0\0\0\0jp2c",
        SIGNED + b"\0\0\0\x01jp2c" + (200).to_bytes(8, "big"),
        SIGNED + box(b"uuid", jpeg2000(8, 8)) + box(b"jp2c"),
    ],
)
def test_a_jpeg_2000_says_its_size_bare_or_in_its_codestream_box(prefix: bytes) -> None:
    size = codestream.jpeg2000_size(prefix + jpeg2000(30, 70, x0=5, y0=6))
    assert (size.rows, size.columns, size.samples, size.bits) == (30, 70, 1, 12)


@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\x00\x00\x00\x00", b"\xff\xd8\xff\xda\x00\x02", b"\xff\xd8\xff\xe0\x00\x00ab"]
)
def test_a_jpeg_without_frame_header_is_a_bad_codestream(frame: bytes) -> None:
    with pytest.raises(codestream.BadCodestream):
        codestream.jpeg_size(frame)


def test_a_jpeg_2000_with_an_empty_area_is_a_bad_codestream() -> None:
    with pytest.raises(codestream.BadCodestream):
        codestream.jpeg2000_size(jpeg2000(0, 70))
    with pytest.raises(codestream.BadCodestream):
        codestream.jpeg2000_size(b"\xff\x4f\xff\x51")


def test_a_frame_is_complete_when_its_end_marker_stands_near_its_end() -> None:
    assert codestream.is_complete(jpeg(8, 8) + b"\0\0")
    assert not codestream.is_complete(jpeg(8, 8)[:-2])
    assert not codestream.is_complete(jpeg(8, 8) + b"\0" * 200)


def test_the_size_in_bytes_counts_what_a_decoder_works_in() -> None:
    assert codestream.Size(10, 10, 3, 8).bytes == 10 * 10 * 3 * 4


@pytest.mark.parametrize(
    "frame",
    [
        SIGNED + box(b"uuid", jpeg2000(8, 8)),
        SIGNED + b"\0\0\0\0uuid" + jpeg2000(8, 8),
        SIGNED + b"\0\0\0\x01uuid" + (16).to_bytes(8, "big") + box(b"jp2c", jpeg2000(8, 8)),
        SIGNED + box(b"jp2c", b"\0\0" + jpeg2000(8, 8)),
        SIGNED + box(b"jp2h", box(b"pclr")) + box(b"jp2c", jpeg2000(8, 8)),
        codestream.JP2_SIGNATURE[:8] + b"\0" * 4 + box(b"jp2c", jpeg2000(8, 8)),
        b"\0" + jpeg2000(8, 8),
    ],
)
def test_a_jpeg_2000_whose_codestream_is_not_where_it_belongs_is_a_bad_codestream(frame: bytes) -> None:
    with pytest.raises(codestream.BadCodestream):
        codestream.jpeg2000_size(frame)
