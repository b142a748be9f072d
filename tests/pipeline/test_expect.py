"""What a peer counts of a study decides when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_made import Archive
from house import SETTINGS, House
from pydicom.uid import generate_uid
from test_deliver import courier, report

from config.settings import Settings
from node.admin.overview import overview
from node.domain import Study, StudyState
from node.errors import AssociationFailed
from node.network.standin import StandIn
from node.pipeline import expect
from node.pipeline.expect import Expecter
from node.pipeline.settle import settle_due
from node.storage import expected, studies, waits
from node.storage.expected import Expected

Make = Callable[..., Path]
STUDY = generate_uid()


class Counts:
    """A peer that says what it is told to."""

    def __init__(self) -> None:
        self.number: int | None = 0
        self.error = ""
        self.asked: list[str] = []
        self.closed = 0

    def count(self, study_instance_uid: str) -> int | None:
        self.asked.append(study_instance_uid)
        if self.error:
            raise AssociationFailed(self.error)
        return self.number

    def close(self) -> None:
        self.closed += 1


def asked_peer(**more: Any) -> dict[str, Any]:
    may = ["send", "receive", "query"]
    return {"peer": [SETTINGS["peer"][0] | {"may": may} | more, SETTINGS["peer"][1]]}


@pytest.fixture
def home(build: Callable[..., House]) -> House:
    return build(**asked_peer())


@pytest.fixture
def counts() -> Counts:
    return Counts()


def expecter(house: House, counts: Counts) -> Expecter:
    return Expecter(
        house.store,
        house.settings.peer[0],
        settings=house.settings,
        bell=house.bell,
        counts=counts,
        clock=lambda: house.now,
        monotonic=lambda: house.now,
        chance=lambda _least, most: most,
    )


def settled(house: House, *, after: float = 0) -> list[Study]:
    house.now += after
    return list(settle_due(house.store, house.settings, house.now).studies)


def told(house: House) -> Expected:
    found = expected.of_study(house.store, house.only_study().id)
    assert found
    return found


def test_a_study_is_complete_with_the_last_instance_of_a_number_that_was_told_twice(
    home: House, counts: Counts, image: Make
) -> None:
    home.receive(image(StudyInstanceUID=STUDY))
    counts.number = 3
    one = expecter(home, counts)
    assert one.ask_due() == 1
    home.now += 2.5
    home.receive(image(StudyInstanceUID=STUDY))
    assert one.ask_due() == 1
    home.now += 100
    assert settled(home) == [], "one is missing: silence says nothing"
    home.receive(image(StudyInstanceUID=STUDY))
    (study,) = settled(home)
    assert study.settled_by == "all 3 instances that pacs counts are here"
    assert counts.asked == [STUDY, STUDY]


@pytest.mark.parametrize("twice", [True, False])
def test_a_number_says_less_while_more_may_come_or_when_it_was_told_once(
    home: House, counts: Counts, image: Make, twice: bool
) -> None:
    """An association is open, or the peer may just be told more: quiet as after a release is waited for."""
    name = home.begin()
    home.put(image(StudyInstanceUID=STUDY))
    counts.number = 3
    one = expecter(home, counts)
    one.ask_due()
    home.now += 2.5
    home.put(image(StudyInstanceUID=STUDY))
    if twice:
        assert one.ask_due() == 1
    home.put(image(StudyInstanceUID=STUDY))
    if not twice:
        home.receiver.on_end(name, "released")
    assert settled(home, after=2.9) == []
    (study,) = settled(home, after=0.2)
    assert study.settled_by == "all 3 instances that pacs counts are here"


@pytest.mark.parametrize("each", [True, False], ids=["an association for each", "one association"])
def test_a_peer_that_is_one_ahead_of_what_it_passes_on_is_given_one_revision(
    home: House, counts: Counts, image: Make, each: bool
) -> None:
    take = home.receive if each else home.put
    home.begin()
    one = expecter(home, counts)
    for number in range(1, 12):
        take(image(StudyInstanceUID=STUDY))
        assert settled(home) == []
        counts.number = number + 1
        one.ask_due()
        assert settled(home, after=1) == []
    take(image(StudyInstanceUID=STUDY))
    one.ask_due()
    (study,) = settled(home, after=3.1)
    assert (study.revision, study.settled_by) == (1, "all 12 instances that pacs counts are here")


def test_a_study_waits_for_what_is_missing_and_not_for_ever(home: House, counts: Counts, image: Make) -> None:
    home.receive(*(image(StudyInstanceUID=STUDY) for _ in range(3)))
    counts.number = 5
    expecter(home, counts).ask_due()
    assert settled(home, after=299) == []
    assert settle_due(home.store, home.settings, home.now).next_due == pytest.approx(home.now + 1)
    (study,) = settled(home, after=2)
    assert study.settled_by == "quiet for 300 s, only 3 of 5 that pacs counts"


def test_the_longest_wait_is_the_peers_own(build: Callable[..., House], counts: Counts, image: Make) -> None:
    home = build(**asked_peer(settle={"expected_seconds": 10}))
    home.receive(image())
    counts.number = 2
    expecter(home, counts).ask_due()
    assert settled(home, after=9) == []
    (study,) = settled(home, after=2)
    assert study.settled_by == "quiet for 10 s, only 1 of 2 that pacs counts"
    home.begin("b" * 12)
    home.put(image(), association="b" * 12)
    expecter(home, counts).ask_due()
    (study,) = settled(home, after=31)
    assert study.settled_by == "quiet for 30 s, only 1 of 2 that pacs counts"


def test_a_peer_that_passes_on_what_it_is_being_sent_is_not_taken_at_its_word(
    home: House, counts: Counts, image: Make
) -> None:
    """It counts as many as it has passed on, at every moment."""
    home.begin()
    one = expecter(home, counts)
    for number in range(1, 6):
        home.put(image(StudyInstanceUID=STUDY))
        counts.number = number
        home.now += 2.5
        one.ask_due()
        assert settled(home) == []
    assert len(counts.asked) == 5
    (study,) = settled(home, after=1)
    assert study.settled_by == "all 5 instances that pacs counts are here"


def test_more_than_the_peer_counted_is_asked_for_again(home: House, counts: Counts, image: Make) -> None:
    home.begin()
    home.put(image(StudyInstanceUID=STUDY))
    one = expecter(home, counts)
    counts.number = 1
    one.ask_due()
    home.put(image(StudyInstanceUID=STUDY))
    assert one.ask_due() == 0, "not so soon"
    home.now += 2.5
    home.put(image(StudyInstanceUID=STUDY))
    assert settled(home, after=5) == [], "what it said before is old, and the association is open"
    counts.number = 4
    assert one.ask_due() == 1
    assert settled(home, after=31) == []
    assert one.ask_due() == 0, "nothing came since"
    assert len(counts.asked) == 2


def test_whatever_we_have_of_the_study_counts(home: House, counts: Counts, image: Make) -> None:
    """A duplicate is no second instance, and an object without an image is one."""
    home.begin()
    first = image(StudyInstanceUID=STUDY)
    home.put(first)
    counts.number = 2
    expecter(home, counts).ask_due()
    home.now += 1
    home.put(first)
    assert told(home).here == 1
    note = image(StudyInstanceUID=STUDY, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59", PixelData=None)
    home.put(note)
    assert told(home).here == 2
    (study,) = settled(home, after=3.1)
    assert study.settled_by == "all 2 instances that pacs counts are here"


def test_results_that_were_stored_back_count(build_house: Any, counts: Counts, image: Make, tmp_path: Path) -> None:
    pacs = StandIn(tmp_path / "pacs", ae_title="PACS")
    pacs.start()
    house = build_house(**asked_peer(port=pacs.port))
    report(house, image(StudyInstanceUID=STUDY))
    one = courier(house)
    assert one.deliver_due() == 2
    one.close()
    pacs.stop()
    house.now += 100
    house.begin("b" * 12)
    house.put(image(StudyInstanceUID=STUDY), association="b" * 12)
    counts.number = 5  # three images and our two results
    expecter(house, counts).ask_due()
    assert (told(house).here, told(house).instances) == (4, 5)
    house.now += 1
    house.put(image(StudyInstanceUID=STUDY), association="b" * 12)
    (study,) = settled(house, after=3.1)
    assert (study.revision, study.settled_by) == (2, "all 5 instances that pacs counts are here")


@pytest.mark.parametrize("number", [None, 0])
def test_a_peer_that_does_not_count_changes_nothing(
    home: House, counts: Counts, image: Make, number: int | None
) -> None:
    home.receive(image())
    counts.number = number
    assert expecter(home, counts).ask_due() == 1
    (study,) = settled(home, after=3.1)
    assert study.settled_by == "association released, then quiet for 3 s"


def test_a_peer_that_cannot_be_asked_is_left_alone_and_shown(home: House, counts: Counts, image: Make) -> None:
    home.begin()
    home.put(image(StudyInstanceUID=STUDY))
    one = expecter(home, counts)
    counts.error = "nothing listens there"
    assert one.ask_due() == 0
    home.put(image())
    assert one.ask_due() == 0
    assert len(counts.asked) == 1, "also new studies do not ask it now"
    seen = overview(home.settings, home.store, home.spool, now=home.now)
    assert "pacs cannot be asked how many instances 1 study has: nothing listens there" in seen["alarms"]
    for wait in (5, 10, 20):
        home.now += wait - 0.1
        one.ask_due()
        home.now += 0.2
        one.ask_due()
    assert len(counts.asked) == 4
    assert all(study.settled_by == "quiet for 30 s" for study in settled(home)), "no study waits for an answer"
    counts.error, counts.number = "", 7
    home.begin("b" * 12)
    home.put(image(StudyInstanceUID=STUDY), association="b" * 12)
    home.now += 41
    assert one.ask_due() == 1
    found = expected.of_study(home.store, studies.find(home.store, STUDY).id)
    assert found and (found.instances, found.reason, found.here) == (7, "", 2)


def test_a_failure_leaves_what_was_said_before(home: House, counts: Counts, image: Make) -> None:
    home.begin()
    home.put(image(StudyInstanceUID=STUDY))
    counts.number = 2
    one = expecter(home, counts)
    one.ask_due()
    home.now += 3
    home.put(image(StudyInstanceUID=STUDY))
    counts.error = "gone"
    one.ask_due()
    assert (told(home).instances, told(home).reason) == (2, "gone")
    (study,) = settled(home, after=3.1)
    assert study.settled_by == "all 2 instances that pacs counts are here"


def test_many_studies_are_asked_about_in_turns(home: House, counts: Counts, image: Make) -> None:
    for _ in range(expect.BATCH + 3):
        home.receive(image())
    one = expecter(home, counts)
    assert [one.ask_due() for _ in range(3)] == [expect.BATCH, 3, 0]
    assert len(set(counts.asked)) == expect.BATCH + 3
    one.rest()
    assert counts.closed == 0
    home.now += 11
    one.rest()
    assert counts.closed == 1


def test_studies_of_others_and_those_that_are_settled_are_not_asked_about(
    home: House, counts: Counts, image: Make
) -> None:
    home.begin("b" * 12, calling="ARCHIVE")
    home.put(image(), association="b" * 12)
    home.receive(image())
    assert len(settled(home, after=31)) == 2
    assert expecter(home, counts).ask_due() == 0


@pytest.mark.parametrize(
    ("more", "is_asked"),
    [
        ({}, True),
        ({"may": ["send", "receive"]}, False),
        ({"may": ["query", "receive"]}, False),
        ({"settle": {"expected_seconds": 0}}, False),
    ],
)
def test_only_who_sends_and_may_be_asked_is_asked(more: dict[str, Any], is_asked: bool) -> None:
    settings = Settings(**(SETTINGS | asked_peer(**more)))
    assert expect.is_asked(settings.peer[0], settings) is is_asked


def test_a_clock_that_was_set_back_makes_nobody_wait(home: House, counts: Counts, image: Make) -> None:
    home.begin()
    home.put(image())
    counts.error = "gone"
    expecter(home, counts).ask_due()
    home.now -= 86400
    assert expected.due(home.store, "pacs", 10, now=home.now) == []
    waits.bound(home.store, now=home.now, wait=10, proof_wait=10, job_lease=10, delivery_lease=10)
    assert len(expected.due(home.store, "pacs", 10, now=home.now)) == 1


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive(finds=True)
    yield made
    made.stop()


def test_a_pacs_is_asked_by_c_find_over_one_association(
    build: Callable[..., House], archive: Archive, image: Make
) -> None:
    home = build(**asked_peer(port=archive.port))
    other = generate_uid()
    archive.counts = {STUDY: 2, other: None}
    home.begin()
    for uid in (STUDY, other):
        home.put(image(StudyInstanceUID=uid))
    one = Expecter(home.store, home.settings.peer[0], settings=home.settings, bell=home.bell, clock=lambda: home.now)
    assert one.ask_due() == 2
    one.close()
    assert (archive.associations, archive.queries) == (1, [STUDY, other])
    found = [expected.of_study(home.store, study.id) for study in studies.latest(home.store, 2)]
    assert {one.instances for one in found if one} == {2, None}
    assert all(study.state is StudyState.RECEIVING for study in studies.latest(home.store, 2))
