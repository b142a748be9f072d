"""C-FIND by SOP Instance UID against an independent PACS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from archive_made import Archive

from node.errors import ContextRefused, PeerError
from node.network import query
from node.network.link import Target, open_link
from node.network.query import Sought

SOUGHT = Sought("1.2", "1.2.3", "1.2.3.4")


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive(finds=True)
    yield made
    made.stop()


def target(archive: Archive) -> Target:
    return Target("OVERREAD", "PACS", "127.0.0.1", archive.port, 3)


def test_what_is_there_is_found_and_what_is_not_is_not(archive: Archive) -> None:
    link = open_link(target(archive), query.PAIRS)
    assert not query.holds(link, SOUGHT)
    archive.objects["1.2.3.4"] = "1.2"
    assert query.holds(link, SOUGHT)
    assert not query.holds(link, Sought("1.2", "1.2.3", "1.2.3.5"))
    link.close()


def test_a_query_that_fails_is_no_answer(archive: Archive) -> None:
    link = open_link(target(archive), query.PAIRS)
    archive.query = lambda: 0xA700
    with pytest.raises(PeerError, match=r"the C-FIND was answered 0xA700, out of resources"):
        query.holds(link, SOUGHT)
    archive.query = lambda: 0x0000
    assert not query.holds(link, SOUGHT)
    link.close()


def test_another_object_than_the_one_asked_for_is_not_it(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    link = open_link(target(archive), query.PAIRS)
    archive.objects["1.2.3.4"] = "1.2"
    monkeypatch.setattr(query, "MOST_MATCHES", 0)
    with pytest.raises(PeerError, match="answered with everything"):
        query.holds(link, SOUGHT)
    link.close()


def test_a_pacs_without_a_query_refuses() -> None:
    archive = Archive()
    with pytest.raises(ContextRefused):
        open_link(target(archive), query.PAIRS)
    archive.stop()
