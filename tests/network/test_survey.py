"""What a peer takes, asked without sending anything; and C-MOVE against a peer of our own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from node.domain import Pair
from node.errors import AssociationFailed, PeerError
from node.network import contexts, move, survey
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


@pytest.fixture
def mover() -> Iterator[Callable[[Any], int]]:
    """A PACS that answers a C-MOVE as it is told."""
    servers: list[Any] = []

    def make(handler: Any) -> int:
        ae = AE("STANDIN")
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_MOVE, handler)])
        servers.append(server)
        return int(server.server_address[1])

    yield make
    for server in servers:
        server.shutdown()


def test_a_destination_that_the_peer_does_not_know(mover: Callable[[Any], int]) -> None:
    asked: list[Any] = []

    def answer(event: Any) -> Iterator[Any]:
        asked.append((event.move_destination, event.identifier.StudyInstanceUID))
        yield None, None

    link = open_link(at(mover(answer)), move.PAIRS)
    moved = move.move(link, "1.2.3", "OVERREAD", seconds=5)
    link.close()
    assert asked == [("OVERREAD", "1.2.3")]
    assert (moved.status, moved.completed) == (move.DESTINATION_UNKNOWN, 0)


def test_a_peer_that_never_answers_is_not_waited_for(mover: Callable[[Any], int]) -> None:
    done = threading.Event()

    def answer(event: Any) -> Iterator[Any]:
        done.wait(10)
        yield None, None

    link = open_link(at(mover(answer)), move.PAIRS)
    with pytest.raises(PeerError, match=r"did not answer in time to the C-MOVE|closed the connection"):
        move.move(link, "1.2.3", "OVERREAD", seconds=0.5)
    done.set()
    link.close()
