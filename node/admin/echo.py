"""Is a peer there, and does it know this node: asked by C-ECHO (of a url, by QIDO-RS), and said in words."""

from __future__ import annotations

from config.settings import Peer, Settings
from node.errors import PeerError
from node.pipeline.peers import echo
from node.storage.echoes import Echo

UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


def can_be_asked(peer: Peer) -> bool:
    return bool(peer.url or (peer.host and peer.port))


def ask(peer: Peer, settings: Settings, *, now: float) -> Echo:
    """Ask a peer that has a place. That it does not answer is an answer, too.

    Raises:
        SettingsError: a file of [tls] or of the peer cannot be used.
    """
    try:
        return Echo(peer.name, now, True, echo(peer, settings))
    except PeerError as error:
        return Echo(peer.name, now, False, error=str(error))


def in_words(echo: Echo, *, now: float) -> str:
    """Such as "last echo 3 minutes ago, answered in 4 ms"."""
    said = f"answered in {1000 * (echo.seconds or 0):.0f} ms" if echo.answered else echo.error
    return f"last echo {_ago(now - echo.at)}, {said}"


def _ago(seconds: float) -> str:
    for unit, length in UNITS:
        if seconds >= length:
            n = int(seconds // length)
            return f"{n} {unit}{'s' if n > 1 else ''} ago"
    return "just now"
