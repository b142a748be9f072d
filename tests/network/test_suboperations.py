"""The last answer to a C-MOVE, or none, from a peer that answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

from node.errors import PeerError
from node.network.link import Target, open_link
from node.network.suboperations import DESTINATION_UNKNOWN, MOVE, MOVE_PAIRS, perform


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

    link = open_link(Target("OVERREAD", "STANDIN", "127.0.0.1", mover(answer), 5), MOVE_PAIRS)
    moved = perform(link, MOVE, "1.2.3", silence=5)
    link.close()
    assert asked == [("OVERREAD", "1.2.3")]
    assert (moved.status, moved.completed) == (DESTINATION_UNKNOWN, 0)


def test_a_peer_that_never_answers_is_not_waited_for(mover: Callable[[Any], int]) -> None:
    done = threading.Event()

    def answer(event: Any) -> Iterator[Any]:
        done.wait(10)
        yield None, None

    link = open_link(Target("OVERREAD", "STANDIN", "127.0.0.1", mover(answer), 5), MOVE_PAIRS)
    with pytest.raises(PeerError, match=r"did not answer in time to the C-MOVE|closed the connection"):
        perform(link, MOVE, "1.2.3", silence=0.5)
    done.set()
    link.close()
