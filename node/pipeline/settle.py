"""Settle: decide that a study is complete, record which signal said so, and compare what came twice.

A sweep over rows; time is an argument, so it may run as often as anybody likes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

from config.settings import Settings
from models.compare import differences
from node.domain import InstanceState, Study, StudyState
from node.edge import careful
from node.failpoint import failpoint
from node.storage import expected, instances, routing, studies
from node.storage.expected import Expected
from node.storage.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """The studies that settled in one sweep, and when the next one may; `more`: of pulled ones some are due now."""

    studies: tuple[Study, ...]
    next_due: float | None
    more: bool = False


def settle_due(
    store: Store, settings: Settings, now: float, *, lot: int | None = None, tried: set[int] | None = None
) -> Settled:
    """Settle every study whose signal has come. One that cannot be looked at keeps no other waiting.

    Of those that a pull brought at most a `lot`, and none of those in `tried`, to which they are added.
    """
    done = []
    waits = []
    tried = set() if tried is None else tried
    most, more = len(tried) + (lot or 0), False
    told = expected.arriving(store)
    for arriving in studies.arriving(store):
        due_at, signal = due(arriving, settings, told.get(arriving.study.id))
        if due_at > now and not arriving.comparing:
            waits.append(due_at)
            continue
        if arriving.pulled and lot is not None:
            if arriving.study.id in tried or len(tried) == most:
                more = more or arriving.study.id not in tried
                continue
            tried.add(arriving.study.id)
        study = careful(partial(_settle, store, arriving, signal, due_at, now), pause=0)
        if study is not None:
            done.append(study)
    return Settled(tuple(done), min(waits, default=None), more)


def _settle(store: Store, arriving: studies.Arriving, signal: str, due_at: float, now: float) -> Study | None:
    if arriving.comparing and not compare(store, arriving.study, now):
        return None
    return settle(store, arriving.study, signal, now) if due_at <= now else None


def due(arriving: studies.Arriving, settings: Settings, told: Expected | None = None) -> tuple[float, str]:
    """When a study is complete, and by which signal: what its peer counts, its associations' release, or silence."""
    due_at, signal = _silence(arriving, settings)
    if told is None or told.instances is None or told.since is None or told.asked_at is None:
        return due_at, signal
    rule = settings.settle_for(arriving.study.peer)
    peer, last_at = arriving.study.peer, arriving.study.last_received_at
    if told.here < told.instances:
        missing = f"only {told.here} of {told.instances} that {peer} counts"
        if last_at + rule.expected_seconds > due_at:
            return last_at + rule.expected_seconds, f"quiet for {rule.expected_seconds:g} s, {missing}"
        return due_at, f"{signal}, {missing}"
    all_here = f"all {told.instances} instances that {peer} counts are here"
    reached = told.here == told.instances and told.since < last_at
    if reached and told.since < told.asked_at and not arriving.open_associations:
        return last_at, all_here
    if reached or told.asked_at > last_at:
        # It may pass on what it is itself just being sent, and count only that, or one more
        return min(due_at, last_at + rule.released_quiet_seconds), all_here
    return due_at, signal


def _silence(arriving: studies.Arriving, settings: Settings) -> tuple[float, str]:
    rule = settings.settle_for(arriving.study.peer)
    quiet_at = arriving.study.last_received_at + rule.quiet_seconds
    if arriving.last_release_at is not None and not arriving.open_associations and not arriving.aborted:
        last = max(arriving.last_release_at, arriving.study.last_received_at)
        released_at = last + rule.released_quiet_seconds
        if released_at <= quiet_at:
            return released_at, f"association released, then quiet for {rule.released_quiet_seconds:g} s"
    return quiet_at, f"quiet for {rule.quiet_seconds:g} s"


def settle(store: Store, study: Study, signal: str, now: float) -> Study | None:
    """Give one study its next revision; None when something arrived meanwhile."""
    members = instances.of_study(store, study.id, InstanceState.CURRENT)
    digest = routing.input_digest([(i.sop_instance_uid, i.digest) for i in members])
    settled = studies.settle(store, study, signal, image_digest=digest, now=now)
    failpoint("settle.end")
    if settled is None or settled.state is not StudyState.SETTLED:
        return None
    log.info("study.settled study=%s revision=%d images=%d", settled.log_id, settled.revision, len(members))
    return settled


def compare(store: Store, study: Study, now: float) -> bool:
    """Look at the pixels of instances whose UID came again with other bytes, in a process that may crash or hang.

    Returns:
        False when one of them contradicts the study, which is then held.

    Raises:
        OSError: the comparison could not be started, or was stopped; the instances wait for the next one.
    """
    waiting = instances.of_study(store, study.id, InstanceState.COMPARING)
    firsts = [next(iter(instances.twins(store, instance)), None) for instance in waiting]
    here = store.spool.shelf.at_hand
    pairs = [(here(first.path), here(one.path)) for first, one in zip(firsts, waiting, strict=True) if first]
    found = iter(differences(pairs))
    clear = True
    for first, instance in zip(firsts, waiting, strict=True):
        differs = next(found) if first else "the first object of this UID is gone"
        instances.compared(store, instance, [differs] if differs else [], now=now)
        clear = clear and not differs
    return clear
