"""The services of this node: what it accepts, what it proposes and when, which resources it asks of web services.

Everything here comes from the tables that the listener and the senders use. A new service is one function and one
entry in `ACTIVITIES` or `RESOURCES`; the statement's tables follow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from config.settings import Peer, Settings
from node.domain import Pair
from node.network import commitment, contexts, dicomweb, query, wado
from node.network.echo import ECHO
from node.network.matching import KEYS
from node.network.retrieve import storage_pairs
from node.network.suboperations import GET_PAIRS, MOVE_PAIRS
from node.pipeline.expect import is_asked
from node.pipeline.prove import asked_by
from node.results import withdrawal
from node.results.form import CLASSES, pairs

QUERY_RETRIEVE = "1.2.840.10008.5.1.4.1.2."
"""What its SOP classes begin with (PS3.4 C.6)."""
FOUND_AS = f"{dicomweb.DICOM_JSON}, application/json"
HANDED_OVER = "as in the files"
"""In the place of a UID: what somebody else's files are, only they say."""


@dataclass(frozen=True)
class Context:
    """One SOP class with its transfer syntaxes, most wanted first, and the roles that this node takes in it."""

    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    scu: bool
    scp: bool
    selected: bool = False
    """Whether a role is negotiated (PS3.7 D.3.3.4)."""

    @property
    def role(self) -> str:
        return " and ".join(name for name, taken in (("SCU", self.scu), ("SCP", self.scp)) if taken)


@dataclass(frozen=True)
class Activity:
    """Something for which this node opens associations; one at a time to each of the peers.

    Each transfer syntax is proposed in a presentation context of its own. `held`: by the running node; others are
    commands, and end with them.
    """

    name: str
    trigger: str
    peers: tuple[str, ...]
    contexts: tuple[Context, ...]
    held: bool = True


@dataclass(frozen=True)
class Resource:
    """One request to a DICOMweb service, below the url of a peer."""

    service: str
    method: str
    path: str
    query: tuple[str, ...]
    sent_as: str
    accepted: str
    trigger: str
    peers: tuple[str, ...]


def accepted(*, uncompressed_first: bool = False) -> tuple[Context, ...]:
    """The presentation contexts that the listener accepts, in the order in which it wants them."""
    order = contexts.UNCOMPRESSED_FIRST if uncompressed_first else contexts.COMPRESSED_FIRST
    return tuple(
        Context(
            str(one.abstract_syntax),
            tuple(map(str, one.transfer_syntax)),
            scu=bool(one.scu_role),
            scp=True,
            selected=bool(one.scu_role),
        )
        for one in contexts.acceptable(order)
    )


def destinations(settings: Settings) -> tuple[Peer, ...]:
    """The peers that results go to by DIMSE."""
    return tuple(p for p in settings.peer if "receive" in p.may and not p.url)


def web_destinations(settings: Settings) -> tuple[Peer, ...]:
    return tuple(p for p in settings.peer if "receive" in p.may and p.url)


def shelves(settings: Settings) -> tuple[Peer, ...]:
    """The peers that studies are brought from by DIMSE."""
    return tuple(p for p in settings.peer if "query" in p.may and not p.url)


def web_shelves(settings: Settings, api: str) -> tuple[Peer, ...]:
    """The same by one of the protocols that a url can mean."""
    return tuple(p for p in settings.peer if "query" in p.may and p.url and p.api == api)


def kinds_for(peers: Iterable[Peer], settings: Settings) -> tuple[str, ...]:
    """The kinds of results that go to any of these peers, in the order of the node's own table."""
    wanted: set[str] = set()
    for peer in peers:
        for route in settings.route:
            if route.mode == "live" and peer.name in route.deliver_to:
                wanted |= set(route.results) & set(peer.results or route.results)
    return tuple(kind for kind in CLASSES if kind in wanted)


def echoes(settings: Settings) -> Activity:
    asked = (*destinations(settings), *shelves(settings))
    peers = [peer for peer in settings.peer if peer in asked]
    trigger = "a person asks whether a peer is there: overread echo, overread check"
    return Activity("Verification", trigger, _names(peers), _as_scu([ECHO]), held=False)


def deliveries(settings: Settings) -> Activity:
    peers = destinations(settings)
    kinds = kinds_for(peers, settings)
    proposed = [pair for kind in kinds for pair in pairs(str(CLASSES[kind][0]))]
    if kinds:  # what was sent may be taken back, whether or not there are key images
        proposed += pairs(str(withdrawal.KIND.sop_class_uid))
    trigger = "results of a study were made, or are to be taken back"
    return Activity("Send results", trigger, _names(peers) if kinds else (), _as_scu(proposed))


def transfers(settings: Settings) -> Activity:
    trigger = "a person sends files: overread send; they are sent as they are"
    context = Context(HANDED_OVER, (HANDED_OVER,), scu=True, scp=False)
    return Activity("Send files", trigger, _names(destinations(settings)), (context,), held=False)


def proofs(settings: Settings) -> Activity:
    peers = [peer for peer in destinations(settings) if peer.proof != "none"]
    proposed = dict.fromkeys(pair for peer in peers for pair in asked_by(peer))
    trigger = "a peer answered success to a result: it is asked whether it keeps it"
    return Activity("Ask for proof", trigger, _names(peers), _as_scu(proposed))


def reports(settings: Settings) -> Activity:
    peers = [p for p in settings.peer if "send" in p.may and p.host and p.port is not None]
    peers = peers if settings.listener.commit else []
    given = tuple(
        Context(c.sop_class_uid, c.transfer_syntaxes, scu=False, scp=True, selected=True) for c in _COMMITMENT
    )
    trigger = "a peer asked for storage commitment, and what it asked about was checked"
    return Activity("Report on storage commitment", trigger, _names(peers), given if peers else ())


def counts(settings: Settings) -> Activity:
    peers = [peer for peer in settings.peer if is_asked(peer, settings)]
    trigger = "a study is arriving from a peer: it is asked how many instances it has of it"
    return Activity("Count instances", trigger, _names(peers), _as_scu(query.PAIRS))


def finds(settings: Settings) -> Activity:
    trigger = "a person brings studies: overread pull"
    return Activity("Find studies", trigger, _names(shelves(settings)), _as_scu(query.PAIRS), held=False)


def gets(settings: Settings) -> Activity:
    peers = [peer for peer in shelves(settings) if peer.retrieve != "move"]
    brought = tuple(
        Context(c.sop_class_uid, c.transfer_syntaxes, scu=False, scp=True, selected=True)
        for c in _as_scu(storage_pairs(()))
    )
    trigger = "studies that were found are brought by C-GET"
    return Activity("Bring studies", trigger, _names(peers), (*_as_scu(GET_PAIRS), *brought), held=False)


def moves(settings: Settings) -> Activity:
    peers = [peer for peer in shelves(settings) if peer.retrieve != "get" and "send" in peer.may]
    trigger = 'a peer offers no C-GET, or its settings say retrieve = "move"'
    return Activity("Have studies sent", trigger, _names(peers), _as_scu(MOVE_PAIRS), held=False)


def stores(settings: Settings) -> Iterable[Resource]:
    trigger = "results of a study were made, or are to be taken back"
    yield Resource(
        "STOW-RS",
        "POST",
        dicomweb.STUDIES,
        (),
        dicomweb.STORED_AS,
        dicomweb.DICOM_JSON,
        trigger,
        _names(web_destinations(settings)),
    )


def searches(settings: Settings) -> Iterable[Resource]:
    peers = web_destinations(settings)
    instances = "/studies/{StudyInstanceUID}/series/{SeriesInstanceUID}/instances"
    trigger = "a service took a result: it is asked whether it finds it"
    asked = _names(peer for peer in peers if peer.proof != "none")
    yield Resource("QIDO-RS", "GET", instances, ("limit", "SOPInstanceUID"), "", FOUND_AS, trigger, asked)
    trigger = "a person asks whether a service is there: overread echo, overread check"
    there = _names(p for p in settings.peer if p.url and p.api == "dicomweb")
    yield Resource("QIDO-RS", "GET", "/studies", ("includefield", "limit"), "", FOUND_AS, trigger, there)


def fetches(settings: Settings) -> Iterable[Resource]:
    peers = _names(web_shelves(settings, "dicomweb"))
    study, trigger = "/studies/{StudyInstanceUID}", "a person brings studies: overread pull"
    keys = tuple(sorted((*KEYS, *wado.HOW, "includefield"), key=str.casefold))
    yield Resource("QIDO-RS", "GET", "/studies", keys, "", dicomweb.DICOM_JSON, trigger, peers)
    yield Resource("WADO-RS", "GET", study, (), "", wado.AS_STORED, "a study that was found is brought", peers)
    trigger = "a study did not come whole, or some of it is here"
    yield Resource("QIDO-RS", "GET", f"{study}/instances", wado.HOW, "", dicomweb.DICOM_JSON, trigger, peers)
    instance = study + "/series/{SeriesInstanceUID}/instances/{SOPInstanceUID}"
    yield Resource("WADO-RS", "GET", instance, (), "", wado.AS_STORED, trigger, peers)


ACTIVITIES: tuple[Callable[[Settings], Activity], ...] = (
    echoes,
    deliveries,
    transfers,
    proofs,
    reports,
    counts,
    finds,
    gets,
    moves,
)
"""Whatever this node opens associations for."""
RESOURCES: tuple[Callable[[Settings], Iterable[Resource]], ...] = (stores, searches, fetches)
"""Whatever it asks of DICOMweb services, as a user agent."""


def activities(settings: Settings) -> tuple[Activity, ...]:
    return tuple(found for activity in ACTIVITIES if (found := activity(settings)).peers)


def resources(settings: Settings) -> tuple[Resource, ...]:
    return tuple(one for resource in RESOURCES for one in resource(settings) if one.peers)


def name_of(uid: str) -> str:
    """What the Standard calls a SOP class or a transfer syntax."""
    return uid if uid == HANDED_OVER else contexts.name_of(uid)


def group_of(sop_class_uid: str) -> str:
    """The service that a SOP class belongs to."""
    if sop_class_uid.startswith(QUERY_RETRIEVE):
        return "Query/Retrieve"
    return {ECHO[0]: "Verification", commitment.MODEL: "Storage Commitment"}.get(sop_class_uid, "Storage")


def _as_scu(proposed: Iterable[Pair]) -> tuple[Context, ...]:
    distinct: Sequence[Pair] = sorted(dict.fromkeys(proposed), key=lambda pair: pair[0])
    return tuple(
        Context(sop_class, tuple(syntax for _, syntax in same), scu=True, scp=False)
        for sop_class, same in groupby(distinct, key=lambda pair: pair[0])
    )


def _names(peers: Iterable[Peer]) -> tuple[str, ...]:
    return tuple(peer.name for peer in peers)


_COMMITMENT = _as_scu(commitment.PAIRS)
