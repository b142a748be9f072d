"""What a peer takes, asked without sending anything."""

from __future__ import annotations

from typing import Any

import pytest

from node.domain import Pair
from node.errors import AssociationFailed
from node.network import contexts, survey
from node.network.link import MAXIMUM_CONTEXTS, Target, open_link
from node.network.standin import StandIn

EXPLICIT = "1.2.840.10008.1.2.1"


def at(port: int, timeout: float = 5) -> Target:
    return Target("OVERREAD", "STANDIN", "127.0.0.1", port, timeout)


def test_more_than_one_association_holds_are_asked(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def watched(target: Target, pairs: Any) -> Any:
        opened.append(len(pairs))
        return open_link(target, pairs)

    monkeypatch.setattr(survey, "open_link", watched)
    pairs: list[Pair] = [(str(uid), EXPLICIT) for uid in contexts.STORAGE[:MAXIMUM_CONTEXTS]]
    pairs += [("1.2.3.4", EXPLICIT), ("1.2.3.5", EXPLICIT)]
    said = survey.survey(at(standin.port), pairs)
    assert opened == [128, 2]
    assert list(said) == pairs
    assert all(said[pair] for pair in pairs[:128]) and not any(said[pair] for pair in pairs[128:])


def test_services_are_told_apart_from_objects(standin: StandIn) -> None:
    pairs = [pair for some in survey.SERVICES.values() for pair in some]
    said = survey.survey(at(standin.port), pairs)
    assert {name for name, some in survey.SERVICES.items() if any(said[p] for p in some)} == {"Verification (C-ECHO)"}


def test_who_does_not_associate_takes_nothing_and_says_why(standin: StandIn) -> None:
    with pytest.raises(AssociationFailed, match="called AE title not recognised"):
        survey.survey(
            Target("OVERREAD", "NOBODY", "127.0.0.1", standin.port, 5), [survey.SERVICES["Storage Commitment"][0]]
        )
