"""What whoever runs a test says, and is told step by step: what was tried, what came of it, what to change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from config.settings import Peer

Verdict = Literal["ok", "warn", "fail", "waiting", "skipped"]
WAIT_SECONDS = 60.0
NOT_ASKED = "nothing is stored there, as was asked for"


@dataclass(frozen=True)
class Rules:
    """How a test is run. `withheld` is asked with a sentence before anything is stored at the peer; it gives why that
    must not be (NOT_ASKED: nobody wants it), or "". `wait`: seconds for what only the peer, or a person at it, can do.
    """

    withheld: Callable[[str], str]
    wait: float = WAIT_SECONDS


@dataclass(frozen=True)
class Step:
    """A step's outcome, or (`waiting`) how far it is: the same name then comes again.

    `change` says what to change, "here" or "there" (at the peer). `proven` is false where something that was asked for
    could not be shown, which is so of each failure and of what is skipped for want of an earlier step.
    """

    name: str
    verdict: Verdict
    text: str
    change: str = ""
    proven: bool = True
    table: tuple[tuple[str, str], ...] = ()
    """Rows of two columns that explain the text."""


def ok(name: str, text: str, *, table: tuple[tuple[str, str], ...] = ()) -> Step:
    return Step(name, "ok", text, table=table)


def warn(name: str, text: str, change: str, *, proven: bool = True, table: tuple[tuple[str, str], ...] = ()) -> Step:
    return Step(name, "warn", text, change, proven, table)


def fail(name: str, text: str, change: str, *, table: tuple[tuple[str, str], ...] = ()) -> Step:
    return Step(name, "fail", text, change, proven=False, table=table)


def waiting(name: str, text: str) -> Step:
    return Step(name, "waiting", text, proven=False)


def only(peer: Peer) -> str:
    """Why a peer is not asked for the rest, in words."""
    allowed = " and ".join(f'"{what}"' for what in peer.may)
    return f"{peer.name} may only {allowed}"


def left_out(name: str, text: str) -> Step:
    """Nobody asked for it."""
    return Step(name, "skipped", text)


def unable(name: str, text: str, change: str = "") -> Step:
    """Asked for, and it could not be tried."""
    return Step(name, "skipped", text, change, proven=False)
