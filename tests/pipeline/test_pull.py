"""A pull from an independent PACS into a data folder without running roles, under a clock that moves when told."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from house import SETTINGS, House, make_image
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from query_scp_made import QueryScp

from node.domain import Pulled, StudyState
from node.errors import PeerError, PullError, StoreError
from node.network.source import Fetched, Found, Wanted
from node.pipeline import asked
from node.pipeline.asked import Rules
from node.pipeline.pull import Progress, Puller, only_here
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.pipeline.sources import source_to
from node.storage import bulk, instances, pulled, pulls, studies
from node.storage.pulls import Pull, PullState, PullStudyState


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[QueryScp]:
    made = QueryScp()
    yield made
    made.stop()


class Pulling:
    """One house, one PACS, and pulls of which each is worked on as a process would."""

    def __init__(self, house: House, pacs: QueryScp, folder: Path) -> None:
        self.house, self.pacs, self.folder = house, pacs, folder
        self.told: list[Progress] = []
        self.waited = 0.0
        self.on_wait: Callable[[], None] = lambda: None

    def hold(self, n: int = 1, **attributes: Any) -> list[str]:
        """So many studies of one image each in the PACS."""
        made = [make_image(self.folder / f"{generate_uid()}.dcm", **attributes) for _ in range(n)]
        return [self.pacs.hold(path) for path in made]

    def begin(self, wanted: Wanted | None = None, *, route: str = "", mode: str = "", **rules: Any) -> Pull:
        peer = self.house.settings.peer_named("pacs")
        assert peer
        asks = [wanted or Wanted(since="20000101")]
        return asked.begin(self.house.store, peer, asks, Rules(**rules), route=route, mode=mode, now=self.house.now)

    def go_on(self, pull: Pull) -> Pull:
        house = self.house
        peer = house.settings.peer_named("pacs")
        assert peer

        def wait(seconds: float) -> None:
            assert seconds > 0
            house.now += seconds
            self.waited += seconds
            self.on_wait()

        puller = Puller(
            house.store,
            house.spool,
            house.receiver,
            settings=house.settings,
            pull=pulls.find(house.store, pull.id),
            source=partial(source_to, peer, house.settings, folder=house.spool.tmp),
            clock=lambda: house.now,
            wait=wait,
            watch=self.told.append,
        )
        return puller.run()

    def pull(self, wanted: Wanted | None = None, **options: Any) -> Pull:
        return self.go_on(self.begin(wanted, **options))

    def states(self, pull: Pull) -> Counter[str]:
        return Counter(str(s.state) for s in pulls.of_pull(self.house.store, pull.id))

    def only(self, pull: Pull) -> pulls.PullStudy:
        (one,) = pulls.of_pull(self.house.store, pull.id)
        return one

    def settle(self) -> None:
        self.house.now += 100
        settle_due(self.house.store, self.house.settings, self.house.now)

    def route(self, uid: str = "") -> Any:
        self.settle()
        plans = [Planned(r, f"{r.bundle}@1.0.0") for r in self.house.settings.route]
        (study,) = [s for s in studies.latest(self.house.store, 100) if uid in ("", s.study_instance_uid)]
        return route_study(self.house.store, study, plans, self.house.now, peers=self.house.settings.peer)


@pytest.fixture
def make(build: Callable[..., House], pacs: QueryScp, tmp_path: Path) -> Callable[..., Pulling]:
    def begin(*, reserve_mb: int = 0, **peer: Any) -> Pulling:
        asks = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}
        asks |= {"may": ["receive", "query"]} | peer
        settings = {"peer": [asks, SETTINGS["peer"][1]], "deliver": {"timeout_seconds": 3}}
        return Pulling(build(**settings, listener={"reserve_mb": reserve_mb}), pacs, tmp_path)

    return begin


@pytest.fixture
def pulling(make: Callable[..., Pulling]) -> Pulling:
    return make()


def test_studies_are_brought_once_and_settle_like_those_that_are_sent(pulling: Pulling) -> None:
    uids = pulling.hold(30)
    pull = pulling.pull()
    assert (pull.state, pull.missing) == (PullState.DONE, ())
    assert pulling.states(pull) == {"DONE": 30}
    assert set(pulling.pacs.sent.values()) == {1}
    pulling.settle()
    settled = studies.in_state(pulling.house.store, StudyState.SETTLED)
    assert {s.study_instance_uid for s in settled} == set(uids)
    assert {s.settled_by for s in settled} == {"association released, then quiet for 3 s"}
    assert {s.peer for s in settled} == {"pacs"}
    last = pulling.told[-1]
    assert (last.total, last.done, last.dead, last.instances) == (30, 30, 0, 30)
    assert last.size > 0


def test_a_database_that_is_busy_for_too_long_is_tried_again_later(
    pulling: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulling.hold(3)
    done, busy = pulls.done, [StoreError("database is locked")]

    def late(*arguments: Any, **rest: Any) -> None:
        if busy:
            raise busy.pop()
        done(*arguments, **rest)

    monkeypatch.setattr(pulls, "done", late)
    pull = pulling.pull()
    assert (pull.state, pulling.states(pull)) == (PullState.DONE, {"DONE": 3})
    assert pulling.waited > 0


def test_what_is_here_completely_is_left_out_unless_it_is_asked_for_again(pulling: Pulling) -> None:
    pulling.hold(3)
    pulling.pull()
    pulling.settle()
    second = pulling.pull()
    assert pulling.states(second) == {"DONE": 3}
    assert set(pulling.pacs.sent.values()) == {1}
    assert {s.reason for s in pulls.of_pull(pulling.house.store, second.id)} == {"was here already"}
    pulling.pull(again=True)
    assert set(pulling.pacs.sent.values()) == {2}
    (study, *_) = studies.latest(pulling.house.store, 5)
    assert [i.receipts for i in instances.of_study(pulling.house.store, study.id)] == [2]


def test_a_study_that_grew_since_is_brought_again(pulling: Pulling) -> None:
    (uid,) = pulling.hold()
    pulling.pull()
    pulling.settle()
    pulling.hold(StudyInstanceUID=uid)
    pulling.pull()
    study = pulling.house.only_study()
    assert len(instances.of_study(pulling.house.store, study.id)) == 2


def test_a_limit_is_kept(pulling: Pulling) -> None:
    pulling.hold(5)
    pull = pulling.pull(limit=2)
    assert pulling.states(pull) == {"DONE": 2}


def test_what_was_asked_for_by_name_and_is_not_there_is_said(pulling: Pulling) -> None:
    pulling.hold(AccessionNumber="A7")
    pull = pulling.pull(Wanted(accession_numbers=("A7", "A8", "A9")))
    assert pull.missing == ("A8", "A9")
    assert pull.state is PullState.DONE


def test_a_pacs_that_counts_nothing_is_counted_for(pulling: Pulling) -> None:
    pulling.pacs.tells = set()
    (uid,) = pulling.hold()
    pulling.hold(StudyInstanceUID=uid)
    pull = pulling.pull()
    assert (pulling.only(pull).expected, pulling.only(pull).taken) == (2, 2)


def test_a_study_that_fails_three_times_is_given_up_with_its_reason_and_the_others_come(pulling: Pulling) -> None:
    bad, *_ = pulling.hold(4)

    def gives(ds: Dataset) -> Dataset | None:
        return None if ds.StudyInstanceUID == bad else ds

    pulling.pacs.gives = gives
    pull = pulling.pull()
    assert pull.state is PullState.DONE
    assert pulling.states(pull) == {"DONE": 3, "DEAD": 1}
    (dead,) = pulls.of_pull(pulling.house.store, pull.id, PullStudyState.DEAD)
    assert (dead.study_instance_uid, dead.attempts) == (bad, 3)
    assert "aborted the association to the C-GET" in dead.reason
    # retries are stored times: 5 s, then 10 s
    assert pulling.waited >= 15
    pulling.pacs.gives = lambda ds: ds
    pull = pulling.go_on(pull)
    assert pulling.states(pull) == {"DONE": 4}


def test_an_abort_in_the_middle_is_made_up_for_by_the_next_try(pulling: Pulling) -> None:
    (uid,) = pulling.hold()
    pulling.hold(2, StudyInstanceUID=uid)
    aborts = [pulling.pacs.held[2]]
    pulling.pacs.gives = lambda ds: None if ds in aborts and aborts.pop() else ds
    pull = pulling.pull()
    assert pulling.states(pull) == {"DONE": 1}
    study = pulling.house.only_study()
    kept = instances.of_study(pulling.house.store, study.id)
    assert len({i.sop_instance_uid for i in kept}) == len(kept) == 3


def test_an_instance_of_another_study_is_not_taken(pulling: Pulling) -> None:
    (_uid,) = pulling.hold()

    def elsewhere(ds: Dataset) -> Dataset:
        given = deepcopy(ds)
        given.StudyInstanceUID = generate_uid()
        return given

    pulling.pacs.gives = elsewhere
    pull = pulling.pull()
    only = pulling.only(pull)
    assert (only.state, only.reason) == (PullStudyState.DEAD, "not taken: not of the study that was asked for")
    assert studies.latest(pulling.house.store, 5) == []


def test_a_pacs_that_is_busy_is_asked_again_and_no_study_pays_for_it(pulling: Pulling) -> None:
    pulling.hold(12)
    pull = pulling.begin()

    pulls.found(
        pulling.house.store,
        pull.id,
        {str(ds.StudyInstanceUID): 1 for ds in pulling.pacs.held},
        missing=(),
        now=pulling.house.now,
    )
    pulling.pacs.busy = 3
    pull = pulling.go_on(pull)
    assert pulling.states(pull) == {"DONE": 12}
    assert {s.attempts for s in pulls.of_pull(pulling.house.store, pull.id)} == {0}
    # 5, 10 and 20 s, in which no other study is tried
    assert 35 <= pulling.waited < 40


def test_a_pacs_that_stays_away_ends_the_pull_and_it_can_go_on(pulling: Pulling) -> None:
    pulling.hold(2)
    pull = pulling.begin()
    found = {str(ds.StudyInstanceUID): 1 for ds in pulling.pacs.held}
    pulls.found(pulling.house.store, pull.id, found, missing=(), now=pulling.house.now)
    pulling.pacs.busy = 1000
    pull = pulling.go_on(pull)
    assert pull.state is PullState.OPEN
    assert "it has as many associations as it takes" in pull.reason
    assert pulling.waited > 30 * 60
    assert pulling.states(pull) == {"QUEUED": 2}
    pulling.pacs.busy = 0
    assert pulling.states(pulling.go_on(pull)) == {"DONE": 2}


def test_a_pull_that_could_not_even_ask_can_go_on(pulling: Pulling) -> None:
    pulling.hold(2)
    pulling.pacs.busy = 1
    pull = pulling.begin()
    with pytest.raises(PeerError):
        pulling.go_on(pull)
    assert pulls.find(pulling.house.store, pull.id).missing is None
    assert pulling.states(pulling.go_on(pull)) == {"DONE": 2}


def test_a_pull_rests_while_the_disk_is_full_and_goes_on_by_itself(
    make: Callable[..., Pulling], monkeypatch: Any
) -> None:
    pulling = make(reserve_mb=1)
    (uid,) = pulling.hold()
    pulling.hold(2, StudyInstanceUID=uid)
    free = [10**9, 10**9, 0, 0, 2 * 1024**2 - 1]  # in the middle of a study, then not yet enough for the next one
    seen: list[tuple[str, int, str]] = []

    def rests() -> None:
        only = pulling.only(pull)
        seen.append((only.state, only.attempts, pulling.told[-1].why))

    monkeypatch.setattr(pulling.house.spool, "free_bytes", lambda: free.pop(0) if free else 10**9)
    pull, pulling.on_wait = pulling.begin(), rests
    pull = pulling.go_on(pull)
    assert [(state, attempts) for state, attempts, _ in seen] == [("QUEUED", 0)] * 2
    assert {why.partition(" MB")[0] for *_, why in seen} == {"less than 2 x listener.reserve_mb = 2"}
    assert (pulling.states(pull), pulling.only(pull).taken) == ({"DONE": 1}, 3)


def test_a_pull_rests_while_too_much_waits_to_be_read_and_only_where_somebody_reads(
    pulling: Pulling, monkeypatch: Any
) -> None:
    pulling.hold(6)
    pull = pulling.pull(ahead=2, mode="shadow")
    assert (pulling.states(pull), pulling.waited) == ({"DONE": 6}, 0), "nobody reads: it is the disk that counts"
    monkeypatch.setattr("node.storage.bulk.somebody_reads", lambda store, now: True)
    pulling.hold(6)
    waiting: list[int] = []

    def read() -> None:
        if not pulling.told[-1].why:
            return
        waiting.append(bulk.ahead(pulling.house.store))
        with pulling.house.store.write() as connection:
            connection.exec_driver_sql("UPDATE study SET state = 'UNROUTED'")

    pulling.on_wait = read
    pull = pulling.pull(ahead=2, mode="shadow", per_minute=50)
    assert pulling.states(pull) == {"DONE": 12}
    assert waiting[0] == 6 and set(waiting[1:]) == {2}
    assert "6 pulled studies wait to be read: it goes on when there are fewer than 2" in {p.why for p in pulling.told}


def test_who_is_killed_while_it_asks_goes_on_with_the_first_question_without_an_answer(
    pulling: Pulling, monkeypatch: Any
) -> None:
    monkeypatch.setattr(asked, "NAMES", 2)
    uids = pulling.hold(7)
    pull = pulling.begin(Wanted(study_instance_uids=(*uids, "1.2.3")))
    answered = []
    real = pulls.found

    def dies(*arguments: Any, **rest: Any) -> int:
        if len(answered) == 2:
            raise KeyboardInterrupt
        answered.append(rest["asked"])
        return real(*arguments, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(pulls, "found", dies)
        with pytest.raises(KeyboardInterrupt):
            pulling.go_on(pull)
    half = pulls.find(pulling.house.store, pull.id)
    assert (half.asked, half.missing, pulling.states(pull)) == (2, None, {"QUEUED": 4})
    before = len(pulling.pacs.identifiers)
    pull = pulling.go_on(pull)
    assert (pull.asked, pull.missing, pulling.states(pull)) == (None, ("1.2.3",), {"DONE": 7})
    again = Counter(str(ds.StudyInstanceUID) for ds in pulling.pacs.identifiers[before:])
    # each is asked for its SOP classes when it is brought
    assert again == dict.fromkeys(uids[:4], 1) | dict.fromkeys(uids[4:], 2) | {"1.2.3": 1}
    assert set(pulling.pacs.sent.values()) == {1}
    assert [p.asked for p in pulling.told if p.asked] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_a_pull_took_is_counted_by_study_and_by_all_tries(pulling: Pulling) -> None:
    (uid,) = pulling.hold()
    pulling.hold(2, StudyInstanceUID=uid)
    last = pulling.pacs.held[2]
    aborts = [last]
    pulling.pacs.gives = lambda ds: None if ds in aborts and aborts.pop() else ds
    pull = pulling.pull(mode="shadow")
    only = pulling.only(pull)
    sizes = {
        each.sop_instance_uid: each.size
        for each in instances.of_study(pulling.house.store, pulling.house.only_study().id)
    }
    kept = sum(sizes.values())
    # the first try brought two of the three, the second one all
    received = 2 * kept - sizes[str(last.SOPInstanceUID)]
    assert (only.size, only.attempts, only.ended_at) == (received, 1, pulling.house.now)
    assert only.seconds > 0
    cost = bulk.cost(pulling.house.store, pull)
    assert (cost.studies, cost.images, cost.received, cost.kept_images) == (1, 3, received, kept)
    assert (cost.jobs, cost.worker_seconds, cost.kept_results) == (0, 0, 0)
    thousand = cost.per_thousand()
    assert thousand and thousand["images"] == 3000
    (row,) = bulk.rows(pulling.house.store, pull)
    assert (row["study_instance_uid"], row["instances"], row["bytes_received"]) == (uid, 3, received)
    assert row["bytes_kept"] == kept


def test_who_interrupts_a_pull_finds_it_as_it_was(pulling: Pulling) -> None:
    pulling.hold(3)
    pull = pulling.begin()

    real = pulling.house.receiver.on_instance
    calls: list[int] = []

    def once(incoming: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(incoming)

    pulling.house.receiver.on_instance = once  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        pulling.go_on(pull)
    assert pulling.states(pull) == {"DONE": 1, "QUEUED": 2}
    assert pulling.states(pulling.go_on(pull)) == {"DONE": 3}
    assert list(pulling.house.spool.tmp.iterdir()) == []


def test_what_a_dead_process_had_is_free_for_the_next(pulling: Pulling) -> None:
    pulling.hold(2)
    pull = pulling.begin()
    found = {str(ds.StudyInstanceUID): 1 for ds in pulling.pacs.held}
    pulls.found(pulling.house.store, pull.id, found, missing=(), now=pulling.house.now)
    assert pulls.claim(pulling.house.store, pull.id, now=pulling.house.now)
    assert pulling.states(pulling.go_on(pull)) == {"DONE": 2}


def test_a_pull_that_a_person_stops_ends_after_its_study(pulling: Pulling) -> None:
    pulling.hold(5)
    pull = pulling.begin(per_minute=1)

    def stop() -> None:
        if pulling.waited > 70:
            pulls.set_state(pulling.house.store, pull.id, PullState.STOPPED, now=pulling.house.now)

    pulling.on_wait = stop
    pull = pulling.go_on(pull)
    assert pull.state is PullState.STOPPED
    assert pulling.states(pull) == {"DONE": 2, "QUEUED": 3}
    pulling.on_wait = lambda: None
    assert pulling.states(pulling.go_on(pull)) == {"DONE": 5}


def test_studies_are_asked_for_at_the_pace_that_is_allowed(pulling: Pulling) -> None:
    pulling.hold(4)
    pulling.pull(per_minute=2)
    assert 90 <= pulling.waited < 91


@pytest.mark.parametrize(("mode", "state"), [("shadow", "DEAD"), ("", "DONE")])
def test_a_study_that_is_sent_while_it_is_pulled_is_no_success_of_a_cohort(
    pulling: Pulling, mode: str, state: str
) -> None:
    (uid,) = pulling.hold()
    sent = make_image(pulling.folder / "sent.dcm", StudyInstanceUID=uid)

    def meanwhile(ds: Dataset) -> Dataset:
        name = pulling.house.begin(calling="ARCHIVE")
        assert pulling.house.put(sent, association=name).code == 0x0000
        pulling.house.receiver.on_end(name, "released")
        return ds

    pulling.pacs.gives = meanwhile
    pull = pulling.pull(mode=mode)
    only = pulling.only(pull)
    assert (only.state, only.attempts) == (PullStudyState(state), 1 if mode else 0)
    assert only.reason.startswith("was also sent unasked: it is a study like every other") is bool(mode)
    study = pulling.house.only_study()
    assert pulled.of_study(pulling.house.store, study.id) == ()
    # and resumed it is left alone
    assert pulling.states(pulling.go_on(pull)) == {"DONE": 1}


@pytest.mark.parametrize(("late", "is_pulled"), [(59, True), (61, False)])
def test_the_end_of_a_move_is_its_last_sign(
    make: Callable[..., Pulling], monkeypatch: pytest.MonkeyPatch, late: float, is_pulled: bool
) -> None:
    """Of a PACS that says nothing while it moves, for longer than what has ended still counts."""
    pulling = make(may=["send", "receive", "query"])
    house = pulling.house
    (uid,) = pulling.hold()
    films = [make_image(pulling.folder / f"{n}.dcm", StudyInstanceUID=uid) for n in range(2)]

    class Mover:
        def __init__(self, _peer: Any, _settings: Any, *, moving: Callable[[str], None], **_more: Any) -> None:
            self.moving = moving

        def find(self, _wanted: Wanted) -> Iterator[Found]:
            yield Found(uid, instances=1)

        def fetch(self, study_instance_uid: str, _take: Any) -> Fetched:
            self.moving(study_instance_uid)
            house.now += 600
            house.receive(films[0])
            return Fetched(1)

        def close(self) -> None:
            pass

    monkeypatch.setattr(sys.modules[__name__], "source_to", Mover)
    monkeypatch.setattr("node.pipeline.pull.receives", lambda *_: True)
    pull = pulling.pull(route="chest", mode="shadow")
    assert pulling.states(pull) == {"DONE": 1}
    house.now += late
    house.receive(films[1])
    assert bool(pulled.of_study(house.store, house.only_study().id)) is is_pulled


def test_only_one_process_works_on_a_pull(pulling: Pulling) -> None:
    pull = pulling.begin()
    settings = pulling.house.settings.model_copy(
        update={"node": pulling.house.settings.node.model_copy(update={"data_dir": pulling.folder})}
    )
    with (
        only_here(settings, pulling.house.store, pull),
        pytest.raises(PullError, match="pull #1 is being worked on by another process"),
        only_here(settings, pulling.house.store, pull),
    ):
        raise AssertionError("two of them")


def test_a_peer_that_may_not_be_asked_is_not(make: Callable[..., Pulling]) -> None:
    pulling = make(may=["receive"])
    with pytest.raises(PullError, match=r'no \[\[peer\]\] of that name may "query" in the settings \(have: none\)'):
        pulling.pull()


def test_a_move_needs_a_node_that_runs_and_a_peer_that_may_send(make: Callable[..., Pulling], tmp_path: Path) -> None:
    pulling = make(may=["send", "receive", "query"], retrieve="move")
    pulling.hold()
    pull = pulling.pull()
    assert pull.state is PullState.OPEN
    assert pull.reason.endswith("which does not run: start `overread serve`")
    without_get = QueryScp(*tmp_path.glob("*.dcm"), get=False)
    pulling = make(port=without_get.port)
    pull = pulling.pull()
    without_get.stop()
    assert pull.reason.endswith('what it is told to move it sends: add "send" to may in its settings here')
    assert pulling.states(pull) == {"QUEUED": 1}


def test_the_number_of_a_pull_that_only_studies_remember_is_not_given_again(pulling: Pulling) -> None:
    pulling.hold()
    assert pulling.pull().id == 1
    study = pulling.house.only_study()
    with pulling.house.store.write() as connection:
        pulled.begin(connection, study.id, Pulled(7))
    assert pulling.begin().id == 8
