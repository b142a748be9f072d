"""`peer test`: proves step by step that a peer and this node work with each other, there and back.

A generator of steps: whoever runs it prints them, or shows them on a page, and may stop at any moment by closing it.
Nothing of the test stays here; what was stored at the peer is named, so that it can be deleted there.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from config.settings import Peer, Settings
from node.admin import handover, inbound, journey, probe, step
from node.admin.journey import LOOK_SECONDS, Journey
from node.admin.probe import Probe
from node.admin.step import Rules, Step
from node.domain import StudyState
from node.network.suboperations import MOVE_PAIRS
from node.storage import trials
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store
from node.storage.trials import PATIENT_ID

Steps = Generator[Step, None, None]
CLEAN_SECONDS = 5.0
"""How long is waited for whoever works on the test study just now."""


def run(settings: Settings, peer: Peer, *, store: Store, spool: Spool, bell: Bell, rules: Rules) -> Steps:
    """All steps of one peer."""
    asked = Probe(settings, peer)
    travels = Journey(asked, store, spool, bell, proof_seconds=rules.wait)
    try:
        if "receive" in peer.may:
            yield from _there(travels, rules)
        else:
            if "query" in peer.may:
                yield from probe.ask(asked)
            for name in (*(() if "query" in peer.may else probe.QUESTIONS), "study", "result", "store", "proof"):
                yield step.left_out(name, step.only(peer))
        moves = asked.offers(MOVE_PAIRS)
        yield from inbound.come_back(travels, wait=rules.wait, moves=moves)
        yield _cleaned(travels)
    finally:
        _clean(travels)


def _there(travels: Journey, rules: Rules) -> Iterator[Step]:
    asked = travels.probe
    yield from probe.ask(asked)
    if asked.takes:
        travels.remember_what_it_takes()
    yield from journey.send_in(travels)
    yield from journey.analyse(travels)
    if asked.stopped:
        yield step.unable("store", f"not tried, as {asked.stopped} failed")
    else:
        yield from handover.send_out(travels, withheld=rules.withheld)
    yield from handover.prove(travels)


def _clean(travels: Journey) -> bool:
    """Delete the test study here; False when it is still worked on, or held."""
    until = time.monotonic() + CLEAN_SECONDS
    while study := travels.found():
        if trials.remove(travels.store, travels.spool, study.id):
            return True
        if study.state is StudyState.HELD or time.monotonic() >= until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _cleaned(travels: Journey) -> Step:
    if not travels.study_instance_uid:
        return step.left_out("clean-up", "nothing was made")
    uid, there = travels.study_instance_uid, ""
    if travels.tried:
        left = "is left what was stored" if travels.stored else "something may be left"
        there = f"; at {travels.name} {left}: delete there patient {PATIENT_ID}, Study Instance UID {uid}"
    if _clean(travels):
        return step.ok("clean-up", f"nothing of the test is left here{there}")
    if travels.study and travels.study.state is StudyState.HELD:
        change = "decide what that is, here: `overread held list`"
        return step.warn("clean-up", f"somebody else sent something into the test study{there}", change)
    return step.ok("clean-up", f"the test study is still worked on; the node deletes it within two hours{there}")
