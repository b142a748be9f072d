"""The way back: does this peer reach our listener. Asked by C-MOVE of what was stored there, else watched for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from node.admin import step
from node.admin.journey import LOOK_SECONDS, Journey
from node.admin.step import Step
from node.errors import AssociationFailed, ContextRefused, PeerError, SettingsError
from node.network.link import open_link
from node.network.statuses import classify
from node.network.suboperations import DESTINATION_UNKNOWN, MOVE, MOVE_PAIRS, Final, perform
from node.pipeline.peers import target_of
from node.storage import roles, trials

NAME = "inbound"
MOVE_SECONDS = 60.0
ARRIVE_SECONDS = 5.0
"""What an object that was moved may take to become a row."""


def come_back(journey: Journey, *, wait: float, moves: bool) -> Iterator[Step]:
    """Have the peer send something. `moves`: it took C-MOVE when it was asked; `wait`: seconds to watch otherwise."""
    peer = journey.probe.peer
    if "send" not in peer.may:
        yield step.left_out(NAME, step.only(peer))
        return
    if not roles.status(journey.probe.settings.node.data_dir)["receive"]["running"]:
        yield step.unable(NAME, "our listener does not run", "start it here: `overread serve`")
        return
    if astray := _not_admitted(journey):
        yield step.fail(NAME, *astray)
    elif journey.probe.stopped == '"connect"':
        yield step.unable(NAME, 'not tried, as "connect" failed')
    elif moves and journey.stored:
        yield from _moved(journey)
    elif moves:
        nothing = "nothing was stored there, so nothing can come back"
        yield step.left_out(NAME, nothing) if journey.withheld else step.unable(NAME, nothing)
    else:
        yield from _watched(journey, wait)


def _not_admitted(journey: Journey) -> tuple[str, str] | None:
    """Where the peer lives is not where it may send from."""
    peer, known = journey.probe.peer, journey.probe.addresses
    if not known or any(peer.admits(address) for address in known):
        return None
    text = f"{peer.name} is at {', '.join(known)}, and may send from {', '.join(peer.networks)} only"
    return text, f'add "{known[0]}" to networks of [[peer]] {peer.name} here, if it sends from there'


def _moved(journey: Journey) -> Iterator[Step]:
    probe = journey.probe
    title = probe.settings.node.ae_title
    yield step.waiting(NAME, f'{journey.name} is asked to send the test study to "{title}" (C-MOVE)')
    try:
        link = open_link(target_of(probe.peer, probe.settings, timeout=probe.seconds), MOVE_PAIRS)
        try:
            with link.within(MOVE_SECONDS):
                moved = perform(link, MOVE, journey.study_instance_uid, silence=MOVE_SECONDS)
        finally:
            link.close()
    except ContextRefused as error:
        yield step.fail(NAME, str(error), "let this node retrieve (C-MOVE) there")
        return
    except AssociationFailed as error:
        yield step.fail(NAME, error.said, error.advice or "see its log there")
        return
    except (PeerError, SettingsError) as error:
        yield step.fail(NAME, str(error), _reach_us(journey))
        return
    yield _arrived(journey, moved)


def _arrived(journey: Journey, moved: Final) -> Step:
    study = journey.study
    assert study, "it was stored"
    until = time.monotonic() + (ARRIVE_SECONDS if moved.completed or moved.status == 0x0000 else 0)
    while (came := trials.came_back(journey.store, study)) == 0 and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    if came:
        objects = "1 object" if came == 1 else f"{came} objects"
        return step.ok(NAME, f"{journey.name} sent {objects} of the test study back by C-MOVE")
    if moved.status == DESTINATION_UNKNOWN:
        said = "answers the C-MOVE with 0xA801: it does not know this node"
    elif moved.status == 0x0000:
        said = "answers the C-MOVE with success, and nothing arrived here"
    else:
        said = f"could not send the test study here: the C-MOVE was {classify(moved.status).error}"
    return step.fail(NAME, f"{journey.name} {said}", _reach_us(journey))


def _reach_us(journey: Journey) -> str:
    return f"see there that it knows {journey.us}, and that no firewall is between"


def _watched(journey: Journey, wait: float) -> Iterator[Step]:
    """Whoever sits at the peer sends something; the association's row is written with its first object."""
    since, until, told = journey.store.now(), time.monotonic() + wait, -1
    while (left := until - time.monotonic()) > 0:
        if origin := trials.came_from(journey.store, journey.name, since=since):
            text = f'{journey.name} ("{origin.calling_ae_title}" from {origin.address}) sends to our listener'
            yield step.ok(NAME, text)
            return
        if int(left) != told:
            told = int(left)
            yield step.waiting(NAME, f"send any study from {journey.name} now ({told + 1} s left)")
        time.sleep(LOOK_SECONDS)
    yield step.fail(NAME, f"nothing came from {journey.name} within {wait:g} s", _reach_us(journey))
