"""The storage SCU: files out to one peer, each with what became of it.

The stored bytes go out as they are, over one association that is held for as long as its owner wants. It keeps no
memory of earlier attempts and never sleeps: when to try again is its owner's decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from node.domain import Pair
from node.errors import AssociationFailed, ContextRefused
from node.network import echo
from node.network.link import MAXIMUM_CONTEXTS, Link, Target, open_link
from node.network.offer import AS_THEY_ARE, Offers, forms_of, refusal, send_first_taken, unreadable
from node.network.statuses import Outcome, classify
from node.network.tls import Identity

__all__ = ["Outcome", "Sender"]

# Bytes per second: a peer that takes an object more slowly than this is taken for stalled.
SLOWEST = 100_000
MEDIUM = 0x0000  # Priority (0000,0700), PS3.7 E.1


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
        self._answers: dict[Pair, bool] = {}
        """What the peer said to each form that the newest association proposed."""
        self._used_at = 0.0

    @property
    def idle_seconds(self) -> float:
        """How long the held association has not been used; 0 when none is held."""
        return time.monotonic() - self._used_at if self._link else 0.0

    def send(
        self,
        paths: Sequence[Path],
        *,
        wanted: Callable[[Path], bool] | None = None,
        offers: Offers = AS_THEY_ARE,
    ) -> Iterator[tuple[Path, Outcome]]:
        """Send Part 10 files in this order; each comes back with its outcome as soon as it is known.

        `wanted` is asked just before a file would go; what is not wanted any more is left out. With `offers` an object
        goes in the first of its forms that the peer accepts, and outcomes say in which.

        Status 0x0122 is a "retry" for whoever sees it once; the owner should give up at the second time. When the
        peer cannot be associated with, or is lost with two objects in a row, those that are left share that outcome
        untried.
        """
        objects = [(path, forms_of(offers, path)) for path in paths]
        pairs = dict.fromkeys(p for _, forms in objects if not isinstance(forms, Outcome) for p in forms)
        batch = _Batch(self, offers, list(pairs))
        for path, forms in objects:
            if wanted is None or wanted(path):
                outcome = forms if isinstance(forms, Outcome) else batch.send(path, forms)
                if outcome is not None:
                    yield path, outcome

    def echo(self) -> float:
        """Seconds for an association, a C-ECHO and its answer.

        Raises:
            AssociationFailed: it did not work; the message says what to change, and on which side.
        """
        started = time.monotonic()
        link = echo.open_echo(self._target)
        try:
            echo.ask(link)
            return time.monotonic() - started
        finally:
            link.close()

    def close(self) -> None:
        """Release the held association, if there is one."""
        if self._link:
            self._link.close()
            self._link = None

    def _holds(self, forms: Sequence[Pair]) -> bool:
        return self._link is not None and self._link.alive and self._link.proposed.issuperset(forms)

    def _ask(self, forms: Sequence[Pair], pairs: Sequence[Pair], offers: Offers) -> None:
        """See that an association is held that proposed these forms; a new one proposes as much else as it can.

        Raises:
            AssociationFailed: there is none.
        """
        if self._holds(forms):
            return
        before = self._link.proposed if self._link else frozenset()
        self.close()
        at = pairs.index(forms[0])
        proposed = list(dict.fromkeys([*forms, *pairs[at:], *pairs[:at], *before]))[:MAXIMUM_CONTEXTS]
        try:
            self._link = open_link(self._target, proposed)
            accepted = self._link.accepted
        except ContextRefused:
            accepted = frozenset()
        self._answers = {pair: pair in accepted for pair in proposed}
        offers.told(self._answers)

    def _store(self, path: Path, form: Pair) -> Outcome:
        link = self._link
        assert link, "an association that accepted the form is held"
        try:
            allowed = self._target.timeout + path.stat().st_size / SLOWEST
        except OSError as error:
            return unreadable(error)
        link.assoc.dimse_timeout = allowed
        started = time.monotonic()
        try:
            # pynetdicom's own timeout comes first, as it is polite enough to send an A-ABORT.
            with link.within(allowed + 1):
                answer: Any = link.assoc.send_c_store(path, link.next_message(), MEDIUM)
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

    def __init__(self, sender: Sender, offers: Offers, pairs: Sequence[Pair]) -> None:
        self._sender = sender
        self._offers = offers
        self._pairs = pairs
        self._refused: set[Pair] = set()
        self._losses = 0
        self._verdict: Outcome | None = None

    def send(self, path: Path, forms: Sequence[Pair]) -> Outcome | None:
        reused, before = self._sender._holds(forms), self._losses
        outcome = self._try(path, forms)
        if reused and self._losses > before:
            # The peer may have ended the association while it was held. One object counts once: it may be the object
            self._losses = before
            outcome = self._try(path, forms)
        if self._losses > 1 and self._verdict is None and outcome is not None:
            self._verdict = replace(outcome, error=f"not tried, as two others failed before it: {outcome.error}")
        return outcome

    def _try(self, path: Path, forms: Sequence[Pair]) -> Outcome | None:
        if self._verdict:
            return self._verdict
        if self._refused.issuperset(forms):
            return refusal(self._sender._target, forms)
        try:
            self._sender._ask(forms, self._pairs, self._offers)
        except AssociationFailed as error:
            self._verdict = Outcome(None, str(error), "permanent" if error.permanent else "retry")
            return self._verdict
        self._refused |= {form for form, accepted in self._sender._answers.items() if not accepted}
        taken = [form for form in forms if self._sender._answers[form]]
        if not taken:
            return refusal(self._sender._target, forms)
        return send_first_taken(self._offers, path, taken, self._store)

    def _store(self, path: Path, form: Pair) -> Outcome:
        outcome = self._sender._store(path, form)
        self._losses = 0 if outcome.status is not None else self._losses + 1
        return outcome
