"""C-GET and C-MOVE of studies from an independent PACS, and what it may do wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from house import make_image
from network.peers import Owner
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from query_scp_made import QueryScp

from node.errors import AssociationFailed, PeerError
from node.network.incoming import Status
from node.network.link import MAXIMUM_CONTEXTS, Target
from node.network.listener import Listener
from node.network.retrieve import GetRefused, Retriever, storage_pairs
from node.network.source import Arrived, Fetched, Wanted
from node.storage.spool import digest_of

LIMIT = 10**8


class Hands:
    """Takes what is brought, as it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrived: list[Arrived] = []
        self.answer: Callable[[int], Status] = lambda n: Status(0x0000)

    def take(self, arrived: Arrived) -> Status:
        status = self.answer(len(self.arrived))
        if status.code == 0x0000:
            arrived.path.rename(self.folder / f"{len(self.arrived)}.dcm")
        self.arrived.append(arrived)
        return status


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    (tmp_path / "kept").mkdir()
    return Hands(tmp_path / "kept")


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """A study of three images."""
    uid = generate_uid()
    return [make_image(tmp_path / f"{n}.dcm", StudyInstanceUID=uid) for n in range(3)]


@pytest.fixture
def start(tmp_path: Path, study: list[Path]) -> Iterator[Callable[..., tuple[QueryScp, Retriever, str]]]:
    made: list[Any] = []
    (tmp_path / "tmp").mkdir()

    def begin(*, how: Any = "auto", silence: float = 5, limit: int = LIMIT, **options: Any) -> Any:
        pacs = QueryScp(*study, **options)
        moving = options.pop("moving", None)
        assert moving is None
        retriever = Retriever(
            Target("OVERREAD", "PACS", "127.0.0.1", pacs.port, 3),
            how=how,
            folder=tmp_path / "tmp",
            instance_limit=limit,
            silence=silence,
        )
        made.extend([retriever.close, pacs.stop])
        return pacs, retriever, str(dcmread(study[0]).StudyInstanceUID)

    yield begin
    for end in made:
        end()
    assert not list((tmp_path / "tmp").iterdir()), "half-received files are left"


Start = Callable[..., tuple[QueryScp, Retriever, str]]


def test_a_study_is_brought_by_c_get_with_its_bytes_unaltered(start: Start, hands: Hands, study: list[Path]) -> None:
    _, retriever, uid = start()
    assert retriever.fetch(uid, hands.take) == Fetched(3)
    sent = {str(dcmread(path).SOPInstanceUID): digest_of(path) for path in study}
    brought = {str(dcmread(path).SOPInstanceUID): digest_of(path) for path in hands.folder.iterdir()}
    assert brought == sent
    assert {a.sop_class_uid for a in hands.arrived} == {str(dcmread(study[0]).SOPClassUID)}
    assert {path.stat().st_mode & 0o777 for path in hands.folder.iterdir()} == {0o600}


def test_many_studies_are_brought_over_two_associations(start: Start, hands: Hands, tmp_path: Path) -> None:
    pacs, retriever, _ = start()
    for n in range(5):
        pacs.hold(make_image(tmp_path / f"other{n}.dcm"))
    for found in list(retriever.find(Wanted())):
        assert retriever.fetch(found.study_instance_uid, hands.take).failed == 0
    assert len(hands.arrived) == 8
    assert pacs.associations == 2


def test_a_pacs_that_does_not_say_what_a_study_holds_is_offered_the_usual(start: Start, hands: Hands) -> None:
    _pacs, retriever, uid = start()
    retriever._finder.sop_classes = lambda uid: ()  # type: ignore[method-assign]
    assert retriever.fetch(uid, hands.take) == Fetched(3)


@pytest.mark.parametrize(
    "classes", [[], ["1.2.840.10008.5.1.4.1.1.1"], [f"1.2.840.10008.5.1.4.1.1.{n}" for n in (2, 4, 7)]]
)
def test_what_is_proposed_fits_into_an_association(classes: list[str]) -> None:
    pairs = storage_pairs(classes)
    assert 0 < len(pairs) <= MAXIMUM_CONTEXTS - 2
    assert len(set(pairs)) == len(pairs)
    assert set(classes) <= {sop_class for sop_class, _ in pairs}
    # Modalities that a route may be for are among the usual
    assert classes or {"1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.2.1"} <= {c for c, _ in pairs}


def test_what_is_not_taken_is_counted_with_its_reason(start: Start, hands: Hands) -> None:
    _, retriever, uid = start()
    hands.answer = lambda n: Status(0xA900, "of another study") if n == 1 else Status(0x0000)
    assert retriever.fetch(uid, hands.take) == Fetched(2, 1, "not taken: of another study")


def test_what_the_pacs_cannot_send_is_counted(start: Start, hands: Hands) -> None:
    pacs, retriever, uid = start()

    def odd(ds: Dataset) -> Dataset:
        if ds is not pacs.held[1]:
            return ds
        given = deepcopy(ds)
        given.SOPClassUID = "1.2.3"  # for which there is no context
        return given

    pacs.gives = odd
    assert retriever.fetch(uid, hands.take) == Fetched(2, 1, "the peer could not send 1 of its instances")


def test_a_warning_with_a_list_of_what_failed_is_no_success(start: Start, hands: Hands) -> None:
    pacs, retriever, uid = start()
    pacs.final = 0xB000
    fetched = retriever.fetch(uid, hands.take)
    assert (fetched.taken, fetched.failed > 0) == (2, True)
    assert "the peer could not send" in fetched.reason


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0xA701, "answered 0xA701, out of resources: it cannot count the matches"),
        (0xA900, "answered 0xA900, the identifier does not match the SOP class"),
        (0xC001, "answered 0xC001, cannot understand"),
    ],
)
def test_a_failure_is_told_in_words(start: Start, hands: Hands, status: int, words: str) -> None:
    pacs, retriever, uid = start()
    pacs.final = status
    assert retriever.fetch(uid, hands.take).reason == words


def test_an_abort_in_the_middle_keeps_what_came_and_the_next_try_brings_all(start: Start, hands: Hands) -> None:
    pacs, retriever, uid = start()
    pacs.gives = lambda ds: None if ds is pacs.held[2] else ds
    with pytest.raises(PeerError, match=r"aborted the association to the C-GET"):
        retriever.fetch(uid, hands.take)
    assert len(hands.arrived) == 2
    pacs.gives = lambda ds: ds
    assert retriever.fetch(uid, hands.take) == Fetched(3)


def test_a_pacs_that_falls_silent_is_cut_off(start: Start, hands: Hands) -> None:
    pacs, retriever, uid = start(silence=0.5)
    go_on = threading.Event()

    def waits(ds: Dataset) -> Dataset:
        go_on.wait(10)
        return ds

    pacs.gives = waits
    with pytest.raises(PeerError, match="did not answer in time"):
        retriever.fetch(uid, hands.take)
    go_on.set()


def test_an_error_of_whoever_takes_ends_it_at_once(start: Start, hands: Hands) -> None:
    _, retriever, uid = start()

    def full(n: int) -> Status:
        raise OSError(28, "No space left on device")

    hands.answer = full
    with pytest.raises(OSError, match="No space left"):
        retriever.fetch(uid, hands.take)
    assert hands.arrived == []


def test_an_instance_above_the_limit_is_not_taken(start: Start, hands: Hands) -> None:
    _, retriever, uid = start(limit=1000)
    fetched = retriever.fetch(uid, hands.take)
    assert (fetched.taken, fetched.failed) == (0, 3)
    assert fetched.reason == "not taken: larger than listener.instance_limit_mb"
    assert hands.arrived == []


def test_a_pacs_without_c_get_says_what_to_change(start: Start, hands: Hands) -> None:
    _, retriever, uid = start(get=False, how="get")
    with pytest.raises(GetRefused, match='offers no C-GET: retrieve = "move" brings it by C-MOVE') as error:
        retriever.fetch(uid, hands.take)
    assert error.value.permanent


def test_a_pacs_with_neither_says_so(start: Start, hands: Hands) -> None:
    _, retriever, uid = start(get=False, move=False)
    with pytest.raises(AssociationFailed, match="offers no C-MOVE and no C-GET"):
        retriever.fetch(uid, hands.take)


def test_an_unknown_move_destination_says_where_to_name_it(start: Start, hands: Hands) -> None:
    _, retriever, uid = start(how="move")
    with pytest.raises(
        AssociationFailed, match=r'the move destination "OVERREAD", or cannot reach it \(0xA801\): add'
    ) as error:
        retriever.fetch(uid, hands.take)
    assert error.value.permanent


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[Listener, Owner]]:
    kept, folder = tmp_path / "moved", tmp_path / "incoming"
    kept.mkdir(), folder.mkdir()
    owner = Owner(kept)
    made = Listener(
        ae_title="OVERREAD",
        bind="127.0.0.1",
        port=0,
        folder=folder,
        callbacks=owner.callbacks(),
        max_associations=5,
        network_timeout=10,
        instance_limit=LIMIT,
    )
    made.start()
    yield made, owner
    made.stop(1)


@pytest.mark.parametrize("how", ["move", "auto"])
def test_a_study_is_moved_to_the_listener(
    start: Start, hands: Hands, listener: tuple[Listener, Owner], how: str
) -> None:
    _pacs, retriever, uid = start(how=how, get=False, destination=("OVERREAD", listener[0].port))
    told: list[str] = []
    retriever._moving = told.append
    assert retriever.fetch(uid, hands.take) == Fetched(3)
    assert len(listener[1].received) == 3
    assert hands.arrived == []
    # before it, and with each pending answer
    assert told == [uid] * 4


def test_a_pacs_that_aborts_at_c_get_is_told_to_move(
    start: Start, hands: Hands, listener: tuple[Listener, Owner]
) -> None:
    pacs, retriever, uid = start(destination=("OVERREAD", listener[0].port))
    aborts = [True]
    pacs.gives = lambda ds: None if aborts and aborts.pop() else ds
    assert retriever.fetch(uid, hands.take) == Fetched(3)
    assert (len(listener[1].received), hands.arrived) == (3, [])


def test_where_neither_works_both_are_said_and_the_next_study_has_its_chance(start: Start, hands: Hands) -> None:
    pacs, retriever, uid = start()
    aborts = [True]
    pacs.gives = lambda ds: None if aborts and aborts.pop() else ds
    with pytest.raises(PeerError, match=r'see whether "OVERREAD" may ask by C-GET there; and .* \(0xA801\)'):
        retriever.fetch(uid, hands.take)
    assert retriever.fetch(uid, hands.take) == Fetched(3)
