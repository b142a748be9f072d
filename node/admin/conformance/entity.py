"""The application entity of a statement (PS3.2 A.4.2): its SOP classes, association policies, presentation contexts,
and what is done with each SOP class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from config.settings import Settings
from node.admin.conformance import answers
from node.admin.conformance.document import Block, Section, Table
from node.admin.conformance.services import HANDED_OVER, Activity, Context, accepted, activities, name_of
from node.network import find, query, stack
from node.network.link import MAXIMUM_CONTEXTS
from node.network.matching import KEYS
from node.network.retrieve import SYNTAXES
from node.network.suboperations import GET, MOVE, identifier

ACCEPTED = "Acceptable presentation contexts"
SETS = "Transfer syntaxes, the most wanted first"
POLICIES = "Association policies"
IMPLEMENTATION = "DICOM implementation class and version"
ACCEPTOR = "Number of associations as an association acceptor"
INITIATOR = "Number of associations as an association initiator"
NOBODY = query.Sought("", "", "")


def proposed(activity: Activity) -> str:
    """The caption of the table of what is proposed for an activity."""
    return f"Proposed presentation contexts: {activity.name}"


def entity(settings: Settings) -> Section:
    """The section about this node's application entity."""
    acting = activities(settings)
    return Section(
        f"{settings.node.ae_title}",
        (),
        (
            _classes(acting),
            _associations(settings, acting),
            Section(
                "Association Initiation Policy",
                (
                    "Each transfer syntax is proposed in a presentation context of its own, "
                    "so that it is known of each whether the peer takes it. Neither extended negotiation of SOP "
                    "classes nor user identity is proposed.",
                ),
                tuple(_activity(one) for one in acting),
            ),
            _acceptance(settings),
        ),
    )


def _classes(acting: Sequence[Activity]) -> Section:
    mine = {c.sop_class_uid: c for c in accepted()}
    asked = [c for activity in acting for c in activity.contexts]
    used = {c.sop_class_uid for c in asked if c.scu}
    named = dict.fromkeys((*mine, *(c.sop_class_uid for c in asked if c.sop_class_uid != HANDED_OVER)))
    rows = [(name_of(uid), uid, _yes(uid in used), _yes(uid in mine)) for uid in named]
    any_file = "Overread sends any file that a person hands it (SCU of its SOP class), see below."
    note = (any_file,) if HANDED_OVER in used else ()
    return Section("SOP Classes", (*note, Table("SOP classes", ("Name", "UID", "SCU", "SCP"), tuple(rows))))


def _associations(settings: Settings, acting: Sequence[Activity]) -> Section:
    held = [(activity.name, peer) for activity in acting if activity.held for peer in activity.peers]
    each = (("From all peers", str(settings.listener.max_associations)),)
    initiated = [(f"{name} to {peer}", "1") for name, peer in held]
    about = (
        ("Application context name", "1.2.840.10008.3.1.1.1"),
        ("Maximum PDU length received, bytes", str(stack.MAXIMUM_PDU)),
    )
    identity = (
        ("Implementation Class UID", str(stack.IMPLEMENTATION_CLASS_UID)),
        ("Implementation Version Name", stack.IMPLEMENTATION_VERSION_NAME),
    )
    head = ("", "Value")
    return Section(
        "Association Policies",
        (),
        (
            Section("General", (Table(POLICIES, head, about),)),
            Section(
                "Number of Associations",
                (
                    Table(ACCEPTOR, ("", "At once"), each),
                    Table(INITIATOR, ("", "At once"), (*initiated, ("In all", str(len(initiated))))),
                    "Commands that a person gives (echo, check, send) open one more while they run; pull opens two, to "
                    "ask and to bring.",
                ),
            ),
            Section(
                "Asynchronous Nature",
                ("Asynchronous operations are not negotiated: one operation at a time on each association.",),
            ),
            Section("Implementation Identifying Information", (Table(IMPLEMENTATION, head, identity),)),
        ),
    )


def _activity(activity: Activity) -> Section:
    return Section(
        activity.name,
        (
            f"When: {activity.trigger}. To: {', '.join(activity.peers)}.",
            _contexts(proposed(activity), activity.contexts),
            *_specific(activity),
        ),
    )


def _contexts(caption: str, contexts: Iterable[Context]) -> Table:
    rows = [
        (name_of(c.sop_class_uid), c.sop_class_uid, name_of(syntax), syntax, c.role, _selection(c))
        for c in contexts
        for syntax in c.transfer_syntaxes
    ]
    head = ("Abstract syntax", "UID", "Transfer syntax", "UID of it", "Role", "Extended negotiation")
    return Table(caption, head, tuple(rows))


def _selection(context: Context) -> str:
    return "SCP/SCU role selection" if context.selected else "none"


def _specific(activity: Activity) -> Iterator[Block]:
    """What is done with the SOP classes of an activity."""
    used = {c.sop_class_uid for c in activity.contexts}
    if activity.name == "Send files":
        yield "What a peer answers is shown to the person; nothing is sent again."
    if activity.name == "Send results":
        yield answers.taken()
        yield "Of several forms of a report the first that the peer takes goes; what it takes is asked anew each time."
    if activity.name in ("Count instances", "Find studies"):
        yield from _found(activity.name)
    if used & {GET, MOVE}:
        yield from _brought(activity)
    if activity.name == "Ask for proof":
        if query.MODEL in used:
            yield _identifier("Identifier of the C-FIND (Study Root, baseline)", query.identifier(NOBODY))
            yield "Pending matches are read to the end; only the instance that was asked for counts as found."
        yield (
            "A report on storage commitment (N-EVENT-REPORT) is taken on the same association, and on any that the "
            "peer opens as SCP of the class."
        )
        yield answers.given("Answers to N-EVENT-REPORT", answers.REPORT)
        yield answers.unproven()
        yield (
            "An N-ACTION answered with a failure that is tried again by the table of C-STORE responses is sent "
            "again later; after any other failure the peer is asked by C-FIND, if it offers that."
        )
    if activity.name == "Report on storage commitment":
        yield answers.given("Failure Reasons in reports of storage commitment", answers.FAILURES)


def _found(name: str) -> Iterator[Block]:
    rows = [
        (level, *_attribute(tag_for_keyword(keyword) or 0), _matching(keyword, given, alone=name == "Count instances"))
        for level, given, keys in find.LEVELS
        for keyword in dict.fromkeys((*given, *keys))
    ]
    yield Table(f"Identifiers of the C-FIND: {name}", ("Level", "Attribute", "Tag", "Matching"), tuple(rows))
    yield (
        "Study Root, hierarchical. Series and images are asked for only where a study's answer lacks what is wanted to "
        "be known of them. Pending matches are read to the end, and held against what was asked for."
    )


def _matching(keyword: str, given: Sequence[str], *, alone: bool) -> str:
    if keyword in given or (alone and keyword == "StudyInstanceUID"):
        return "single value, unique key"
    if keyword in KEYS and not alone:
        return "range, or universal" if keyword == "StudyDate" else "single value, or universal"
    return "universal"


def _brought(activity: Activity) -> Iterator[Block]:
    model = "C-GET" if activity.name == "Bring studies" else "C-MOVE"
    yield _identifier(f"Identifier of the {model} (Study Root, baseline)", identifier(""))
    if model == "C-MOVE":
        yield "Move destination: the AE title of this node, whose listener takes what comes."
        return
    order = ", ".join(name_of(str(syntax)) for syntax in SYNTAXES)
    yield (
        "The storage classes above are proposed for a study of which the peer does not tell SOP Classes in Study, nor "
        "the classes of its images; otherwise those that it tells, each in as many transfer syntaxes as "
        f"{MAXIMUM_CONTEXTS} contexts hold, in this order: {order}."
    )
    yield "Each C-STORE on the association is answered as the listener does it; cancelled is what takes too long."


def _identifier(caption: str, asked: Dataset) -> Table:
    rows = tuple((*_attribute(elem.tag), _key(elem.keyword)) for elem in asked)
    return Table(caption, ("Attribute", "Tag", "Matching"), rows)


def _attribute(tag: int) -> tuple[str, str]:
    return dictionary_description(tag), str(Tag(tag)).upper()


def _key(keyword: str) -> str:
    return "level" if keyword == "QueryRetrieveLevel" else "single value, unique key"


def _acceptance(settings: Settings) -> Section:
    eager = [p.name for p in settings.peer if p.prefer == "uncompressed"]
    orders = [("most peers" if eager else "all peers", accepted())]
    orders += [(", ".join(eager), accepted(uncompressed_first=True))] if eager else []
    policy = (
        "Associations are accepted from the peers below, under this title, from their networks, and with the "
        "certificate that is asked for; from one that may only receive where it may report on storage commitment "
        "(proof auto or commitment). Of a presentation context the first transfer syntax of the table that is "
        "proposed is taken; an abstract syntax without any of them is refused, and the others go on. User identity, "
        "extended negotiation and asynchronous operations are not answered. A host that holds more connections than "
        "its share is not answered at all."
    )
    return Section(
        "Association Acceptance Policy",
        (
            policy,
            *_acceptable(orders),
            answers.rejections(settings),
        ),
        (
            Section(
                "SOP Specific Conformance for Storage",
                (
                    "Level 2 (full): every data element is kept, private ones too, in the bytes and the transfer "
                    "syntax in which it came. The same SOP Instance UID with the same bytes is answered with success "
                    "and counts once; with other bytes both are kept, and what contradicts the study's patient or "
                    "pixels is held for a person. Nothing is coerced.",
                    answers.given("Answers to C-STORE", answers.STORE),
                ),
            ),
            Section(
                "SOP Specific Conformance for Storage Commitment Push Model",
                (
                    "As SCP: every request is refused (listener.commit = false)."
                    if not settings.listener.commit
                    else "As SCP: what lies in the spool is read, and its digest compared, before it is reported on. "
                    "What is committed to is kept for as long as [retention] says.",
                    answers.given("Answers to N-ACTION", answers.COMMIT),
                ),
            ),
            Section("SOP Specific Conformance for Verification", ("Answered with 0000, success.",)),
        ),
    )


def _acceptable(orders: Sequence[tuple[str, Sequence[Context]]]) -> Iterator[Table]:
    """SOP classes with the name of a set of transfer syntaxes, and the sets, one for each order of preference."""
    names: dict[tuple[str, ...], str] = {}
    rows: list[tuple[str, ...]] = []
    for context in orders[0][1]:
        name = names.setdefault(tuple(sorted(context.transfer_syntaxes)), chr(ord("A") + len(names)))
        rows.append((name_of(context.sop_class_uid), context.sop_class_uid, name, context.role, _selection(context)))
    yield Table(ACCEPTED, ("Abstract syntax", "UID", "Transfer syntaxes", "Role", "Extended negotiation"), tuple(rows))
    listed: dict[tuple[str, ...], None] = {}
    for whose, contexts in orders:
        for context in contexts:
            name = names[tuple(sorted(context.transfer_syntaxes))]
            for n, syntax in enumerate(context.transfer_syntaxes, start=1):
                listed[(name, whose, str(n), name_of(syntax), syntax)] = None
    yield Table(SETS, ("Set", "From", "Order", "Transfer syntax", "UID"), tuple(sorted(listed, key=_by_order)))


def _by_order(row: tuple[str, ...]) -> tuple[str, str, int]:
    return row[0], row[1], int(row[2])


def _yes(said: bool) -> str:
    return "yes" if said else "no"
