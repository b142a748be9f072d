"""`peer test`: proves step by step that a peer and this node work with each other, there and back.

A generator of steps: whoever runs it prints them, or shows them on a page, and may stop at any moment by closing it.
Nothing of the test stays here; what was stored at the peer is named, so that it can be deleted there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from config.settings import Peer, Settings
from node.admin import handover, inbound, journey, probe, step
from node.admin.handover import NOT_ASKED
from node.admin.journey import Journey
from node.admin.probe import Probe
from node.admin.step import Step
from node.network import move
from node.pipeline.ourselves import PATIENT_ID
from node.storage import trials
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store

__all__ = ["NOT_ASKED", "Rules", "Step", "run"]

Steps = Generator[Step, None, None]
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Rules:
    """How a test is run. `withheld` is asked with a sentence before anything is stored at the peer; it gives why that
    must not be, or "". `wait`: seconds that a person, or the peer, gets for what only it can do."""

    withheld: Callable[[str], str]
    wait: float = WAIT_SECONDS


def run(settings: Settings, peer: Peer, *, store: Store, spool: Spool, bell: Bell, rules: Rules) -> Steps:
    """All steps of one peer."""
    asked = Probe(settings, peer)
    travels = Journey(asked, store, spool, bell, proof_seconds=rules.wait)
    try:
        if "receive" in peer.may:
            yield from _there(travels, rules)
        else:
            for name in (*probe.QUESTIONS, "study", "result", "store", "proof"):
                yield step.left_out(name, f'{peer.name} may only "send"')
        moves = asked.offers(move.PAIRS)
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
    """Delete the test study here; False when somebody still works on it: the node does so within two hours."""
    study = travels.found()
    return study is None or trials.remove(travels.store, travels.spool, study.id)


def _cleaned(travels: Journey) -> Step:
    if not travels.study_instance_uid:
        return step.left_out("clean-up", "nothing was made")
    done = _clean(travels)
    here = "nothing of the test is left here" if done else "the test study is deleted here within two hours"
    if not travels.tried:
        return step.ok("clean-up", here)
    uid = travels.study_instance_uid
    left = "is left what was stored" if travels.stored else "something may be left"
    there = f"at {travels.name} {left}: delete there patient {PATIENT_ID}"
    return step.ok("clean-up", f"{here}; {there}, Study Instance UID {uid}")
