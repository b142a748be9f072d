"""A multipart message (RFC 2046), or one object, as files while it arrives.

The one home of python-multipart. No part is ever whole in memory, and a part whose end has not come is none: files of
what broke off are deleted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from node.errors import BrokenMessage, SpoolError
from node.network.webget import Body

MULTIPART = "multipart/related"
DICOM = "application/dicom"


def files(body: Body, *, folder: Path, limit: int) -> Iterator[Path | None]:
    """The objects of an answer, each in a file of its own (mode 0600) in `folder`, which is the caller's from then on.

    None stands for one that is longer than `limit` bytes.

    Raises:
        BrokenMessage: the message is in no such form, or ended before its end. What was given before is whole.
        SpoolError: a file cannot be written.
    """
    media_type, options = parse_options_header(body.content_type)
    kind = media_type.decode("latin-1").strip()
    boundary = options.get(b"boundary", b"")
    if kind == MULTIPART and boundary:
        return _parts(boundary, body.pieces, _Files(folder, limit))
    if kind == DICOM and body.framed:
        return _one(body.pieces, _Files(folder, limit))
    if kind == DICOM:
        raise BrokenMessage("an object comes without its length: whether all of it came cannot be known")
    if kind == MULTIPART:
        raise BrokenMessage("a multipart message comes without its boundary")
    raise BrokenMessage(f"it answers with {kind or 'nothing'} in place of DICOM objects")


def _parts(boundary: bytes, pieces: Iterable[bytes], into: _Files) -> Iterator[Path | None]:
    callbacks: dict[str, Callable[..., None]] = {
        "on_part_begin": into.begin,
        "on_part_data": into.write,
        "on_part_end": into.end,
        "on_end": into.finish,
    }
    try:
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        # The parser knows no preamble: it becomes a part, which has no file
        parser.write(b"--" + boundary + b"\r\n\r\n\r\n")
        for piece in pieces:
            parser.write(piece)
            while into.ready:
                yield into.ready.popleft()
            if into.finished:
                return
        raise BrokenMessage("the multipart message ends before its last boundary")
    except FormParserError as error:
        raise BrokenMessage(f"the multipart message cannot be read: {error}") from None
    finally:
        into.discard()


def _one(pieces: Iterable[bytes], into: _Files) -> Iterator[Path | None]:
    try:
        into.open()
        for piece in pieces:
            into.write(piece, 0, len(piece))
        into.end()
        yield into.ready.popleft()
    finally:
        into.discard()


class _Files:
    """Takes what a parser reads. The first part that it begins is the preamble."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.ready: deque[Path | None] = deque()
        self.finished = False
        self._folder = folder
        self._limit = limit
        self._file: Any = None
        self._size = 0
        self._begun = False

    def begin(self) -> None:
        if self._begun:
            self.open()
        self._begun = True

    def open(self) -> None:
        self._size = 0
        with self._explained():
            # Written and closed by the calls that follow
            self._file = NamedTemporaryFile(  # noqa: SIM115
                dir=self._folder, prefix="fetched-", suffix=".part", mode="wb", delete=False
            )

    def write(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._file is not None and self._size <= self._limit:
            with self._explained():
                self._file.write(memoryview(data)[start:end])

    def end(self) -> None:
        if self._file is None:
            return
        with self._explained():
            self._file.close()
        path, self._file = Path(self._file.name), None
        if self._size > self._limit:
            path.unlink()
        self.ready.append(path if self._size <= self._limit else None)

    def finish(self) -> None:
        self.finished = True

    def discard(self) -> None:
        """Delete what nobody was given."""
        if self._file is not None:
            with suppress(OSError):  # a full disk, again
                self._file.close()
            self.ready.append(Path(self._file.name))
            self._file = None
        for path in filter(None, self.ready):
            path.unlink(missing_ok=True)
        self.ready.clear()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpoolError(f"{self._folder}: an instance cannot be written: {error.strerror}") from None
