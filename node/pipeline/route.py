"""Route: which instances does which route analyse, and why not the others.

Routes look at headers only. The answer of every route is kept in words, also when it took nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from config.settings import Conditions, Peer, Route
from node.domain import Choice, Gone, Instance, InstanceState, Matched, Priority, Pulled, Study
from node.errors import SettingsError
from node.failpoint import failpoint
from node.pipeline import frames
from node.storage import instances, pulled, routing
from node.storage.store import Store
from node.storage.trials import OURSELVES

log = logging.getLogger(__name__)

PRIORITY, REQUESTS = "RequestedProcedurePriority", "RequestAttributesSequence"
# PS3.3 C.4.11: the defined terms, two of which mean the same; no image can make itself BULK, or any route
PRIORITIES = {p.name: p for p in Priority if p is not Priority.BULK} | {"MEDIUM": Priority.ROUTINE}


@dataclass(frozen=True)
class Planned:
    """A route of the settings with its bundle found: what the dispatch role works with."""

    route: Route
    bundle: str
    """`name@version`: a route that names no version means the newest one at start."""


def check_keywords(routes: Sequence[Route]) -> None:
    """Every condition names a DICOM attribute.

    Raises:
        SettingsError: naming the key.
    """
    for i, route in enumerate(routes):
        for key in ("when", "unless"):
            for keyword in getattr(route, key):
                if tag_for_keyword(keyword) is None:
                    raise SettingsError(f"route[{i}].{key}.{keyword}: no such DICOM attribute keyword (PS3.6)")


def route_study(
    store: Store, study: Study, plans: Sequence[Planned], now: float, *, peers: Sequence[Peer] = ()
) -> Study:
    """Give a settled study its jobs, or its reasons for having none."""
    members = _present(store, study)
    headers = read_headers(members, [p.route for p in plans])
    gone = [i for i in instances.of_study(store, study.id, InstanceState.CURRENT) if i.gone is not Gone.KEPT]
    pulls = pulled.of_study(store, study.id)
    asked = [p for p in plans if not _unasked(p.route.name, pulls)]
    wanted = [_wanted(p, members, headers, gone=gone, study=study, peers=peers, pulls=pulls) for p in asked]
    wanted += [_answer(name, reason) for name, reason in _left_out([p.route.name for p in plans], pulls).items()]
    failpoint("route.start")
    routed = routing.route(store, study, wanted, now=now)
    failpoint("route.end")
    log.info("study.routed study=%s revision=%d state=%s", routed.log_id, routed.revision, routed.state)
    return routed


def _unasked(route: str, pulls: Sequence[Pulled]) -> str:
    """Why a route is not asked about a study that was pulled; empty where it is."""
    if not pulls or any(p.route in ("", route) for p in pulls):
        return ""
    return f"not asked: the study came by {', '.join(p.sentence for p in pulls)}"


def _left_out(routes: Sequence[str], pulls: Sequence[Pulled]) -> dict[str, str]:
    """The routes that a pull leaves out, and those for which it was made and which are not there, each with why."""
    reasons = {name: reason for name in routes if (reason := _unasked(name, pulls))}
    missing = {p.route: f"not in the settings, and pull #{p.pull} was made for it" for p in pulls if p.route}
    return reasons | {name: reason for name, reason in missing.items() if name not in routes}


def _answer(route: str, reason: str) -> routing.Wanted:
    return routing.Wanted(Matched(route, (), reason), "", {})


def _is_shadow(route: str, pulls: Sequence[Pulled]) -> bool:
    """Whether nothing of this route may leave: every pull that wants it said so."""
    wants = [p for p in pulls if p.route in ("", route)]
    return bool(wants) and all(p.mode == "shadow" for p in wants)


def destinations(route: Route, peers: Sequence[Peer]) -> dict[str, list[str]]:
    """Where a route's results go, and which kinds each destination wants; none named means all."""
    wanted: dict[str, list[str]] = {p.name: [*p.results] for p in peers}
    return {name: wanted.get(name, []) for name in route.deliver_to} if route.mode == "live" else {}


def _wanted(
    plan: Planned,
    members: Sequence[Instance],
    headers: Mapping[int, Dataset],
    *,
    gone: Sequence[Instance],
    study: Study,
    peers: Sequence[Peer],
    pulls: Sequence[Pulled],
) -> routing.Wanted:
    """One route's answer; where it goes by series, the chosen images of each take the place of those that match."""
    matched = match(plan.route, members, headers, peer=study.peer)
    choices: tuple[Choice, ...] = ()
    if plan.route.frames and matched.instance_ids:
        taken = [m for m in members if m.id in set(matched.instance_ids)]
        chosen = frames.choose(plan.route.frames, taken, headers, gone=gone)
        ids = tuple(m.id for m in taken if m.id not in chosen.left_out)
        matched = Matched(matched.route, ids, f"{matched.reason}; {chosen.sentence}")
        choices = chosen.choices
    shadow = _is_shadow(plan.route.name, pulls)
    urgent = urgency(plan.route, [headers[i] for i in matched.instance_ids], pulled=bool(pulls))
    # Of a test nothing leaves by itself
    deliver_to = {} if shadow or study.peer == OURSELVES else destinations(plan.route, peers)
    return routing.Wanted(matched, plan.bundle, deliver_to, choices, Priority.BULK if shadow else urgent)


def explain(store: Store, study: Study, routes: Sequence[Route]) -> list[tuple[Instance, Route, str]]:
    """What each route says of each image of a study by today's settings; an empty reason means that it is read."""
    members = _present(store, study)
    headers = read_headers(members, routes)
    pulls = pulled.of_study(store, study.id)
    reasons = {
        (m.id, r.name): _unasked(r.name, pulls) or mismatch(r, headers[m.id], peer=study.peer)
        for m in members
        for r in routes
    }
    for route in routes:
        if route.frames:
            taken = [m for m in members if not reasons[m.id, route.name]]
            left_out = frames.choose(route.frames, taken, headers).left_out
            reasons |= {(i, route.name): reason for i, reason in left_out.items()}
    return [(member, route, reasons[member.id, route.name]) for member in members for route in routes]


def _present(store: Store, study: Study) -> list[Instance]:
    """The current images whose file is there, and at hand; a file that vanished is marked as lost, aloud."""
    members, shelf = [], store.spool.shelf
    current = [i for i in instances.of_study(store, study.id, InstanceState.CURRENT) if i.gone is Gone.KEPT]
    shelf.bring(instance.path for instance in current)
    for instance in current:
        if instance.path.is_file() or shelf.holds(instance.path):
            members.append(instance)
        else:
            log.error("instance.lost study=%s instance=%d", study.log_id, instance.id)
            instances.lose(store, instance)
    return members


def read_headers(members: Sequence[Instance], routes: Sequence[Route]) -> dict[int, Dataset]:
    """Of each instance the attributes that the routes ask for."""
    keywords = {k for r in routes for k in (*r.when, *r.unless)} | {"Modality", PRIORITY, REQUESTS}
    if any(r.frames for r in routes):
        keywords |= set(frames.KEYWORDS)
    return {m.id: _header(m.path, sorted(keywords)) for m in members}


def _header(path: Path, keywords: list[str]) -> Dataset:
    return dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))


def match(route: Route, members: Sequence[Instance], headers: Mapping[int, Dataset], *, peer: str) -> Matched:
    """The instances that one route takes, and a sentence about it."""
    reasons = {m.id: mismatch(route, headers[m.id], peer=peer) for m in members}
    taken = tuple(i for i, reason in reasons.items() if not reason)
    if not members:
        return Matched(route.name, (), "the study has no image")
    if taken:
        left = Counter(reason for reason in reasons.values() if reason)
        rest = "".join(f"; {n} not: {reason}" for reason, n in left.items())
        return Matched(route.name, taken, f"{len(taken)} of {len(members)} images match{rest}")
    return Matched(route.name, (), "; ".join(Counter(reasons.values())))


def mismatch(route: Route, header: Dataset, *, peer: str) -> str:
    """Why a route does not take an instance; empty when it does."""
    if route.from_peers and peer not in (*route.from_peers, OURSELVES):
        return f"Peer {peer or 'unknown'} is not in {', '.join(route.from_peers)}"
    return _unmet(route.when, header) or _excluded(route.unless, header)


def urgency(route: Route, headers: Iterable[Dataset], *, pulled: bool = False) -> Priority:
    """How urgent a job is: what its images say or what its route says, whichever is more urgent; else routine.

    Nobody waits for what was pulled: of it only the images count, else it is worked on after all others.
    """
    said = [PRIORITIES[word] for header in headers for word in _asked(header) if word in PRIORITIES]
    if route.priority and not pulled:
        said.append(PRIORITIES[route.priority.upper()])
    return min(said, default=Priority.BULK if pulled else Priority.ROUTINE)


def _asked(header: Dataset) -> Iterator[str]:
    """Every Requested Procedure Priority of an image: its own, and those of the requests that it answers."""
    yield from _values(header, PRIORITY)
    try:
        requests = list(header.get(REQUESTS) or [])
    except Exception:  # as below: a malformed sequence says nothing
        return
    for request in requests:
        yield from _values(request, PRIORITY)


def _unmet(conditions: Conditions, header: Dataset) -> str:
    for keyword, allowed in conditions.items():
        values = _values(header, keyword)
        if not any(v in _normal(allowed) for v in values):
            return f"{keyword} {_shown(values)} is not in {_shown(allowed)}"
    return ""


def _excluded(conditions: Conditions, header: Dataset) -> str:
    for keyword, excluded in conditions.items():
        values = _values(header, keyword)
        if any(v in _normal(excluded) for v in values):
            return f"{keyword} {_shown(values)} is excluded"
    return ""


def _values(header: Dataset, keyword: str) -> list[str]:
    """All values of an attribute, upper case without padding; an absent or empty attribute is one empty value."""
    try:
        value = header.get(keyword)
    except Exception:  # whatever a malformed value makes pydicom raise, it is one attribute that says nothing
        return ["(UNREADABLE)"]
    many = list(value) if isinstance(value, MultiValue | list) else [value]
    return [str(v).strip().upper() if v is not None else "" for v in many] or [""]


def _normal(values: Sequence[str]) -> set[str]:
    return {v.strip().upper() for v in values}


def _shown(values: Sequence[str]) -> str:
    return ", ".join(v or "(absent)" for v in values)
