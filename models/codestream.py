"""What a compressed frame says about itself, read from its own markers and without decoding it.

A decoder allocates what the codestream declares, not what the DICOM header declares: a few bytes can ask for
gigabytes. So the size is read here first. Never decodes, never trusts a length that points outside the bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
J2K_SOC_SIZ = b"\xff\x4f\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
# ISO/IEC 10918-1 Table B.1 (SOF0 to SOF15 without DHT, JPG, DAC) and ISO/IEC 14495-1 (SOF55)
FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
PADDING_LIMIT = 64
"""Encoders pad a fragment to even length, some to a few words more."""


@dataclass(frozen=True)
class Size:
    columns: int
    rows: int
    samples: int
    bits: int

    @property
    def bytes(self) -> int:
        """Bytes of the decoded frame; decoders work in at least four bytes per sample."""
        return self.columns * self.rows * self.samples * max(4, (self.bits + 7) // 8)


class BadCodestream(ValueError):
    """The bytes are no codestream of this kind."""


def jpeg_size(frame: bytes) -> Size:
    """The size in the first frame header of a JPEG or JPEG-LS codestream.

    Raises:
        BadCodestream: there is none.
    """
    if frame[:2] != SOI:
        raise BadCodestream("no SOI marker")
    at = 2
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            raise BadCodestream("a marker was expected")
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker in FRAME_MARKERS and at + 10 <= len(frame):
            bits, rows, columns, samples = struct.unpack(">BHHB", frame[at + 4 : at + 10])
            return Size(columns, rows, samples, bits)
        if marker == 0xDA or length < 2:
            break
        at += 2 + length
    raise BadCodestream("no frame header")


def jpeg2000_size(frame: bytes) -> Size:
    """The size in the SIZ marker of a JPEG 2000 or HTJ2K codestream, bare or in JP2 boxes (ISO/IEC 15444-1 A.5.1).

    Raises:
        BadCodestream: there is none.
    """
    start = _jp2_codestream(frame) if frame.startswith(JP2_SIGNATURE) else 0
    siz = frame[start : start + 43]
    if len(siz) < 43 or siz[:4] != J2K_SOC_SIZ:
        raise BadCodestream("no SIZ marker")
    x1, y1, x0, y0 = struct.unpack(">4I", siz[8:24])
    samples, bits = struct.unpack(">HB", siz[40:43])
    if x1 <= x0 or y1 <= y0:
        raise BadCodestream("an empty image area")
    return Size(x1 - x0, y1 - y0, samples, (bits & 0x7F) + 1)


def _jp2_codestream(frame: bytes) -> int:
    """Where the contents of the first jp2c box begin, box by box (ISO/IEC 15444-1 I.4); never by searching."""
    at = len(JP2_SIGNATURE)
    while at + 8 <= len(frame):
        length, kind = struct.unpack(">I4s", frame[at : at + 8])
        if kind == b"jp2c":
            if b"pclr" in frame[:at]:  # a palette turns one component into up to 255, which SIZ does not say
                raise BadCodestream("a palette")
            return at + (16 if length == 1 else 8)
        # 0 (to the end) and 1 (64 bit XL) are legal, yet only jp2c can need them, and pydicom does not walk them
        if length < 8:
            raise BadCodestream("a JP2 box without a plain length")
        at += length
    raise BadCodestream("no jp2c box")


def is_complete(frame: bytes) -> bool:
    """Whether the codestream reaches its end marker: EOI and EOC are the same two bytes in all these formats."""
    return EOI in frame[-PADDING_LIMIT:]
