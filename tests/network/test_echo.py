"""C-ECHO: how quickly, by which implementation, and whether Nagle's algorithm holds the answer back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from node.errors import AssociationFailed
from node.network import echo
from node.network.link import Target
from node.network.stack import IMPLEMENTATION_CLASS_UID
from node.network.standin import StandIn


def at(port: int, called: str = "STANDIN") -> Target:
    return Target("OVERREAD", called, "127.0.0.1", port, 5)


def test_a_peer_says_what_it_is_and_how_quick(standin: StandIn) -> None:
    pulse = echo.pulse(at(standin.port))
    assert 0 < pulse.at_once < 1
    assert pulse.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert not pulse.held_back and not pulse.is_dcmtk


@pytest.mark.dcmtk
def test_dcmtk_as_packaged_waits_for_acknowledgements(
    storescp: Callable[..., tuple[int, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = storescp()
    pulse = echo.pulse(at(port, "ANY"))
    assert pulse.is_dcmtk and pulse.held_back, pulse
    monkeypatch.setenv("TCP_NODELAY", "1")
    port, _ = storescp()
    pulse = echo.pulse(at(port, "ANY"))
    assert pulse.is_dcmtk and not pulse.held_back, pulse


def test_a_rejection_says_what_to_change_and_where(standin: StandIn) -> None:
    with pytest.raises(AssociationFailed) as caught:
        echo.pulse(at(standin.port, "SOMEBODY"))
    said = f'"SOMEBODY" at 127.0.0.1:{standin.port} rejects the association permanently: called AE title not recognised'
    assert caught.value.said == said
    assert caught.value.advice == "correct ae_title in this peer's settings here, or the AE title there"
    assert str(caught.value) == f"{caught.value.said}: {caught.value.advice}"
