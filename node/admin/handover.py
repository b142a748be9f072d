"""A test's results on their way out: stored at the peer by the node's own courier, and proven to be kept there.

Nothing is stored unless whoever runs the test said so; each function yields steps and waits no longer than it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from node.admin import step
from node.admin.journey import LOOK_SECONDS, Journey
from node.admin.step import NOT_ASKED, Step
from node.domain import DeliveryState, Study
from node.errors import AssociationFailed, ContextRefused, PeerError, SettingsError
from node.network import query
from node.network.link import open_link
from node.network.query import Sought
from node.pipeline.deliver import NOBODY_ASKS
from node.pipeline.peers import sender_to, target_of, web_sender_to
from node.storage import deliveries, instances, jobs, trials
from node.storage.trials import PATIENT_ID

SEND_SECONDS = 30.0
"""What sending may take beyond deliver.timeout_seconds."""
INDEX_SECONDS = 10.0
"""What a peer may take to find an object that it took."""


def send_out(journey: Journey, *, withheld: Callable[[str], str]) -> Iterator[Step]:
    """The results to the peer, by the node's own courier; where no route makes any, the image itself."""
    study = journey.study
    if study is None or (journey.routes and not journey.sendable):
        yield step.unable("store", "there is nothing to send")
        return
    what = f"{journey.sendable} results" if journey.sendable else "the synthetic image"
    if why := withheld(f"Store {what} of patient {PATIENT_ID} at {journey.name}, where they stay until deleted?"):
        journey.withheld = why == NOT_ASKED
        yield step.left_out("store", why) if journey.withheld else step.unable("store", why)
        return
    yield step.waiting("store", f"sending to {journey.name}")
    journey.tried = True
    if journey.sendable:
        yield from _results_out(journey, study)
    else:
        yield from _image_out(journey, study)


def _results_out(journey: Journey, study: Study) -> Iterator[Step]:
    peer = journey.probe.peer
    made = trials.send_results(
        journey.store, study, peer.name, peer.results, routes=journey.routes, now=journey.store.now()
    )
    journey.bell.ring("dispatch")
    until = time.monotonic() + SEND_SECONDS + journey.probe.settings.deliver.timeout_seconds
    waits, failed = True, ""
    while waits and not failed and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        sent = deliveries.of_study(journey.store, study.id)
        failed = next((f"{d.kind}: {d.reason}" for d in sent if d.state is DeliveryState.DEAD or d.failing_since), "")
        waits = any(d.state in (DeliveryState.QUEUED, DeliveryState.LEASED) for d in sent)
    series = {r.id: r.series_instance_uid for r in jobs.results(journey.store, study.id)}
    journey.stored = [
        Sought(study.study_instance_uid, series[d.result_id], d.sop_instance_uid)
        for d in deliveries.of_study(journey.store, study.id)
        if d.state in (DeliveryState.SENT, DeliveryState.COMMITTED)
    ]
    counted = f"{len(journey.stored)} of {made} results stored"
    if failed:
        yield step.fail("store", f"{counted}; {failed}", _side(failed))
    elif waits:
        change = "see `overread status` here; settings that have changed are taken up by `overread reload`"
        yield step.fail("store", f"{counted} in time", change)
    else:
        omitted = [f"{d.kind} left out: {d.reason}" for d in sent if d.state is DeliveryState.OMITTED]
        yield _stored(journey, "; ".join([counted, *omitted]))


def _side(reason: str) -> str:
    """What to change, where the reason does not say so itself."""
    return "as it says" if " here" in reason or " there" in reason else "see its log there"


def _stored(journey: Journey, what: str) -> Step:
    uid = journey.study_instance_uid
    return step.ok("store", f"{what}; delete them there afterwards: patient {PATIENT_ID}, Study Instance UID {uid}")


def _image_out(journey: Journey, study: Study) -> Iterator[Step]:
    (image, *_) = instances.of_study(journey.store, study.id)
    try:
        sender = sender_to(journey.probe.peer, journey.probe.settings, timeout=journey.probe.seconds)
    except SettingsError as error:
        yield step.fail("store", str(error), "correct it in the settings here")
        return
    ((_, outcome),) = list(sender.send([image.path]))
    sender.close()
    if outcome.kind not in ("stored", "warning"):
        yield step.fail("store", f"the image was not stored: {outcome.error}", _side(outcome.error))
        return
    journey.stored = [Sought(study.study_instance_uid, image.series_instance_uid, image.sop_instance_uid)]
    yield _stored(journey, "the image was stored")


def prove(journey: Journey) -> Iterator[Step]:
    """That the peer keeps it: by Storage Commitment or by finding it, as its `proof` says."""
    if not journey.stored:
        nothing = "nothing was stored there"
        yield step.left_out("proof", nothing) if journey.withheld else step.unable("proof", nothing)
    elif journey.probe.peer.proof == "none":
        yield step.left_out("proof", f'{NOBODY_ASKS} (proof = "none")')
    else:
        yield from (_committed if journey.sendable else _found)(journey)


def _committed(journey: Journey) -> Iterator[Step]:
    """By the node's own provers, which ask a moment after the results went."""
    study = journey.study
    assert study, "something was stored"
    until, told = time.monotonic() + journey.proof_seconds, ""
    while time.monotonic() < until:
        sent = [d for d in deliveries.of_study(journey.store, study.id) if d.state is not DeliveryState.OMITTED]
        if all(d.state is DeliveryState.COMMITTED for d in sent):
            ways = ", ".join(dict.fromkeys(d.proof for d in sent))
            yield step.ok("proof", f"{journey.name} proved that it keeps {len(sent)} results: {ways}")
            return
        given_up = [d for d in sent if d.state is DeliveryState.DEAD or (d.proof and d.proof_due_at is None)]
        if stuck := [d for d in given_up if d.state is not DeliveryState.COMMITTED]:
            yield step.fail("proof", f"{journey.name} {stuck[0].proof or stuck[0].reason}", _proving(journey))
            return
        text = next((d.proof for d in sent if d.proof and d.state is DeliveryState.SENT), "")
        text = text or f"waiting for {journey.name} to prove that it keeps {len(sent)} results"
        if text != told:
            yield step.waiting("proof", text)
            told = text
        time.sleep(LOOK_SECONDS)
    text = f"{journey.name} has not proven within {journey.proof_seconds:g} s that it keeps the results ({told})"
    yield step.fail("proof", text, _proving(journey))


def _proving(journey: Journey) -> str:
    return (
        f"let its reports on Storage Commitment come to {journey.us}, or let it answer queries (C-FIND), there; or "
        f"change proof in [[peer]] {journey.name} here"
    )


def _found(journey: Journey) -> Iterator[Step]:
    (sought,) = journey.stored
    until = time.monotonic() + INDEX_SECONDS
    try:
        while time.monotonic() < until:
            if _holds(journey, sought):
                yield step.ok("proof", f"{journey.name} finds the image when it is asked")
                return
            yield step.waiting("proof", f"{journey.name} does not find the image yet")
            time.sleep(1.0)
    except ContextRefused:
        yield step.fail("proof", f"{journey.name} offers no Query (C-FIND)", _proving(journey))
        return
    except AssociationFailed as error:
        yield step.fail("proof", error.said, error.advice or "see its log there")
        return
    except PeerError as error:
        yield step.fail("proof", str(error), "see its log there")
        return
    text = f"{journey.name} took the image and does not find it within {INDEX_SECONDS:g} s"
    yield step.fail("proof", text, "see its log there: does it keep it, and for this node to find?")


def _holds(journey: Journey, sought: Sought) -> bool:
    probe = journey.probe
    if probe.peer.url:
        web = web_sender_to(probe.peer, probe.settings, timeout=probe.seconds)
        try:
            return web.holds(sought)
        finally:
            web.close()
    target = target_of(probe.peer, probe.settings, timeout=probe.seconds)
    link = open_link(target, query.PAIRS)
    try:
        return query.holds(link, sought)
    finally:
        link.close()
