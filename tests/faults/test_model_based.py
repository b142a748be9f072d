"""A node's life in any order: hypothesis draws what happens, and after each step every invariant holds.

Everything is the node's own but the network, the PACS and the model: a node's processes are steps here, and a step may
die at each of its fail-points. At the end everything is drained, and each study must end in something visible.
`OVERREAD_TEST_LIVES=5000` draws as many lives at random in place of those that are drawn every time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from lives import PEERS, World
from lives_made import ANSWERS, COMINGS, NUMBERS, STUDIES, Films, Grave, Reader

from models.compare import difference
from node.domain import StudyState
from node.pipeline import deliver, infer, receive, route, settle
from node.storage import deliveries, jobs, routing, spool, studies

OFTEN = int(os.environ.get("OVERREAD_TEST_LIVES", "0"))
HOUR, DAY = 3600.0, 86400.0

some_studies = st.sampled_from(STUDIES)
some_numbers = st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3, unique=True)
comings = st.sampled_from([*["as it is"] * 8, *COMINGS])
endings = st.sampled_from(["released", "released", "aborted", "open"])
some_answers = st.lists(st.sampled_from(["stored", *ANSWERS]), max_size=4)
spooling = [f"spool.{what}.{step}" for what in ("assoc", "obj") for step in ("before_rename", "after_rename")]
deaths = {
    "receive": st.sampled_from([*[""] * 8, *spooling, "receive.start", "receive.after_row", "receive.end"]),
    "advance": st.sampled_from([*[""] * 6, "settle.end", "route.start", "route.end"]),
    "infer": st.sampled_from(
        [*[""] * 6, "infer.claimed", "infer.read", "spool.results.after_rename", "report.written", "report.end"]
    ),
    "deliver": st.sampled_from([*[""] * 6, "deliver.claimed", "deliver.sent", "deliver.recorded"]),
}


@pytest.fixture
def films(tmp_path: Path) -> Films:
    return Films(tmp_path)


@pytest.fixture
def grave(monkeypatch: pytest.MonkeyPatch) -> Grave:
    made = Grave()
    for module in (spool, receive, settle, route, infer, deliver):
        monkeypatch.setattr(module, "failpoint", made)
    monkeypatch.setattr(infer, "Reader", Reader)
    monkeypatch.setattr(settle, "differences", lambda pairs: [difference(pair) for pair in pairs])
    return made


class Life(RuleBasedStateMachine):
    """What may happen, drawn step by step."""

    def __init__(self, films: Films, grave: Grave) -> None:
        super().__init__()
        self.world = World(films, grave)

    def teardown(self) -> None:
        try:
            if sys.exception() is None:
                self.world.drain()
                self.world.lose_the_database()
                self.world.drain()
        finally:
            self.world.close()

    @invariant()
    def holds(self) -> None:
        self.world.every_invariant_holds()
        self.world.nothing_acknowledged_is_missing()
        self.world.no_result_has_two_names()

    # what senders do

    @rule(study=some_studies, numbers=some_numbers, coming=comings, how=endings, dies=deaths["receive"])
    def receives(self, study: str, numbers: list[int], coming: str, how: str, dies: str) -> None:
        self.world.receive([self.world.films(study, number, coming) for number in numbers], how, dies)

    @precondition(lambda self: any(pacs.held for pacs in self.world.pacs.values()))
    @rule(n=st.integers(0, 100), how=endings)
    def a_result_comes_back(self, n: int, how: str) -> None:
        held = {uid: data for pacs in self.world.pacs.values() for uid, data in pacs.held.items()}
        path = self.world.folder / "back.dcm"
        path.write_bytes(held[sorted(held)[n % len(held)]])
        self.world.receive([path], how, "")

    @precondition(lambda self: self.world.open)
    @rule(how=st.sampled_from(["released", "aborted"]))
    def an_association_ends(self, how: str) -> None:
        self.world.end_association(how)

    # what the roles do

    @rule(dies=deaths["advance"])
    def advances(self, dies: str) -> None:
        self.world.advance(dies)

    @rule(dies=deaths["infer"], breaks=st.sampled_from([*[False] * 5, True]))
    def infers(self, dies: str, breaks: bool) -> None:
        self.world.infer(dies, breaks=breaks)

    @precondition(lambda self: not self.world.asleep)
    @rule()
    def another_worker_falls_asleep(self) -> None:
        self.world.fall_asleep()

    @precondition(lambda self: self.world.asleep)
    @rule()
    def the_other_worker_wakes(self) -> None:
        self.world.wake()

    @rule(name=st.sampled_from(PEERS), answers=some_answers, dies=deaths["deliver"])
    def delivers(self, name: str, answers: list[str], dies: str) -> None:
        self.world.deliver(name, answers, dies)

    @rule(seconds=st.sampled_from([4.0, 31.0, 1000.0]))
    def everybody_works(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.world.advance()
        self.world.infer()
        for name in PEERS:
            self.world.deliver(name, [])

    @rule()
    def purges(self) -> None:
        self.world.dispatcher.purge()

    @rule()
    def sweeps(self) -> None:
        assert self.world.dispatcher.give_up_orphans() == 0
        self.world.dispatcher.bound_waits()

    # what people do

    @rule(accepts=st.booleans(), n=st.integers(0, 9))
    def a_person_decides(self, accepts: bool, n: int) -> None:
        house = self.world.house
        held = studies.in_state(house.store, StudyState.HELD)
        if held:
            verb = studies.accept if accepts else studies.reject
            verb(house.store, held[n % len(held)], now=house.now)

    @rule()
    def a_person_retries(self) -> None:
        house = self.world.house
        jobs.retry_all(house.store, now=house.now)
        deliveries.retry_all(house.store, now=house.now)

    @rule(n=st.integers(0, 9))
    def a_person_routes_again(self, n: int) -> None:
        house = self.world.house
        known = studies.latest(house.store, 10)
        if known:
            routing.again(house.store, known[n % len(known)], now=house.now)

    # what happens to a node

    @rule()
    def restarts(self) -> None:
        self.world.start()

    @rule()
    def loses_its_database(self) -> None:
        self.world.lose_the_database()

    @rule(seconds=st.sampled_from([1.0, 4.0, 31.0, 1000.0, HOUR, 25 * DAY, 40 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from([-2 * DAY, -HOUR, -20.0, 20.0, HOUR, 2 * DAY, 100 * DAY]))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.house.now += seconds


def live(films: Films, grave: Grave, lives: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Life(films, grave),
        settings=settings(
            max_examples=OFTEN or lives,
            stateful_step_count=25,
            deadline=None,
            derandomize=not OFTEN,
            phases=[Phase.generate] if OFTEN else list(Phase),
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_lives_of_a_node(films: Films, grave: Grave) -> None:
    live(films, grave, 6)


@pytest.mark.fault
@pytest.mark.slow
def test_many_lives_of_a_node(films: Films, grave: Grave) -> None:
    live(films, grave, 200)
