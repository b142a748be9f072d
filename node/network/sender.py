"""The storage SCU: files out to one peer, each with what became of it.

The stored bytes go out as they are, over one association that is held for as long as its owner wants. It keeps no
memory of earlier attempts and never sleeps: when to try again is its owner's decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from node.errors import AssociationFailed, ContextRefused
from node.network.link import MAXIMUM_CONTEXTS, Link, Pair, Target, open_link
from node.network.statuses import Outcome, classify
from node.network.tls import Identity

__all__ = ["Outcome", "Sender"]

# Bytes per second: a peer that takes an object more slowly than this is taken for stalled.
SLOWEST = 100_000
MEDIUM = 0x0000  # Priority (0000,0700), PS3.7 E.1
ECHO: Pair = (str(Verification), str(ImplicitVRLittleEndian))


@dataclass(frozen=True)
class _Object:
    path: Path
    pair: Pair
    size: int


class Sender:
    """Sends to one peer; used by one thread at a time.

    `timeout` (seconds) bounds each step: connecting, associating, and the answer to an object beyond what its size
    allows. With an `identity` it speaks TLS and never plain; with a `fingerprint` (SHA-256) only to the peer that shows
    that certificate. `close` it when `idle_seconds` has become too long.
    """

    def __init__(
        self,
        *,
        calling_ae_title: str,
        called_ae_title: str,
        host: str,
        port: int,
        timeout: float,
        identity: Identity | None = None,
        fingerprint: str = "",
    ) -> None:
        self._target = Target(calling_ae_title, called_ae_title, host, port, timeout, identity, fingerprint)
        self._link: Link | None = None
        self._used_at = 0.0

    @property
    def idle_seconds(self) -> float:
        """How long the held association has not been used; 0 when none is held."""
        return time.monotonic() - self._used_at if self._link else 0.0

    def send(
        self, paths: Sequence[Path], *, wanted: Callable[[Path], bool] | None = None
    ) -> Iterator[tuple[Path, Outcome]]:
        """Send Part 10 files in this order; each comes back with its outcome as soon as it is known.

        `wanted` is asked just before a file would go; what is not wanted any more is left out.

        Status 0x0122 is a "retry" for whoever sees it once; the owner should give up at the second time. When the
        peer cannot be associated with, or is lost twice in a row, the objects that are left share that outcome
        untried.
        """
        objects = [_read(path) for path in paths]
        batch = _Batch(self, list(dict.fromkeys(o.pair for o in objects if isinstance(o, _Object))))
        for path, item in zip(paths, objects, strict=True):
            if wanted is None or wanted(path):
                yield path, batch.send(item) if isinstance(item, _Object) else item

    def echo(self) -> float:
        """Seconds for an association, a C-ECHO and its answer.

        Raises:
            AssociationFailed: it did not work; the message says what to change, and on which side.
        """
        started = time.monotonic()
        try:
            link = open_link(self._target, [ECHO])
        except ContextRefused:
            raise AssociationFailed(
                f"{self._target} associates and does not offer Verification", permanent=True
            ) from None
        try:
            with link.within(self._target.timeout):
                answer = link.assoc.send_c_echo(link.next_message())
            link.late = time.monotonic() - started >= self._target.timeout
            seconds = time.monotonic() - started
        finally:
            link.close()
        if "Status" not in answer:
            raise AssociationFailed(f"{self._target} associates, then {link.lost()} to the C-ECHO: see its log")
        if answer.Status != 0x0000:
            raise AssociationFailed(f"{self._target} answers the C-ECHO with status 0x{answer.Status:04X}: see its log")
        return seconds

    def close(self) -> None:
        """Release the held association, if there is one."""
        if self._link:
            self._link.close()
            self._link = None

    def _holds(self, pair: Pair) -> bool:
        return self._link is not None and self._link.alive and pair in self._link.proposed

    def _link_for(self, pair: Pair, pairs: Sequence[Pair]) -> Link:
        """The held association if it proposed the pair, or a new one that proposes as much as it can."""
        if self._link is None or not self._holds(pair):
            before = self._link.proposed if self._link else frozenset()
            self.close()
            at = pairs.index(pair)
            wanted = dict.fromkeys([*pairs[at:], *pairs[:at], *before])
            self._link = open_link(self._target, list(wanted)[:MAXIMUM_CONTEXTS])
        return self._link

    def _store(self, link: Link, item: _Object) -> Outcome:
        allowed = self._target.timeout + item.size / SLOWEST
        link.assoc.dimse_timeout = allowed
        started = time.monotonic()
        try:
            # pynetdicom's own timeout comes first, as it is polite enough to send an A-ABORT.
            with link.within(allowed + 1):
                answer: Any = link.assoc.send_c_store(item.path, link.next_message(), MEDIUM)
        except (AttributeError, ValueError, RuntimeError, OSError) as error:
            self.close()
            return Outcome(None, f"could not be sent: {type(error).__name__}: {error}", "retry")
        self._used_at = time.monotonic()
        if "Status" in answer:
            return classify(answer.Status, str(answer.get("ErrorComment", "")))
        link.late = link.late or self._used_at - started >= allowed
        self.close()
        return Outcome(None, f"{self._target} {link.lost()}", "retry")


class _Batch:
    """One call of `send`, and what it has learnt about the peer so far."""

    def __init__(self, sender: Sender, pairs: Sequence[Pair]) -> None:
        self._sender = sender
        self._pairs = pairs
        self._refused: set[Pair] = set()
        self._losses = 0
        self._verdict: Outcome | None = None

    def send(self, item: _Object) -> Outcome:
        reused = self._sender._holds(item.pair)
        outcome = self._try(item)
        if reused and self._losses:
            # The peer may have ended the association while it was held.
            outcome = self._try(item)
        return outcome

    def _try(self, item: _Object) -> Outcome:
        if self._verdict:
            return self._verdict
        if item.pair in self._refused:
            return self._refusal(item)
        try:
            link = self._sender._link_for(item.pair, self._pairs)
        except AssociationFailed as error:
            self._verdict = Outcome(None, str(error), "permanent" if error.permanent else "retry")
            return self._verdict
        except ContextRefused:
            self._refused.update(self._pairs)
            return self._refusal(item)
        if item.pair not in link.accepted:
            return self._refusal(item)
        outcome = self._sender._store(link, item)
        self._losses = 0 if outcome.status is not None else self._losses + 1
        if self._losses > 1:
            self._verdict = outcome
        return outcome

    def _refusal(self, item: _Object) -> Outcome:
        sop_class, transfer_syntax = (UID(uid).name for uid in item.pair)
        return Outcome(None, f"{self._sender._target} accepts no {sop_class} in {transfer_syntax}", "permanent")


def _read(path: Path) -> _Object | Outcome:
    try:
        meta = read_file_meta_info(path)
        pair = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        return _Object(path, pair, path.stat().st_size)
    except FileNotFoundError:
        return Outcome(None, "the stored file is missing", "permanent")
    except OSError as error:
        return Outcome(None, f"the stored file cannot be read: {error.strerror}", "retry")
    except (InvalidDicomError, AttributeError):
        return Outcome(None, "the stored file is not a DICOM file with file meta information", "permanent")
