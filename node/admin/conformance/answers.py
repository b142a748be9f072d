"""What this node answers and when, and what it does with what peers answer: statuses and rejections.

Codes are those that the listener and the six verbs use, and the words of a code are those of `network.statuses`.
"""

from __future__ import annotations

from dataclasses import dataclass

from config.settings import Settings
from node.admin.conformance.document import Table
from node.network import incoming
from node.network.incoming import Rejection, Requestor
from node.network.offer import SOP_CLASS_NOT_SUPPORTED
from node.network.statuses import Kind, classify, meanings, rejection
from node.pipeline.deliver import PERMANENT_TRIES
from node.pipeline.identify import CANNOT_UNDERSTAND, DOES_NOT_MATCH
from node.pipeline.receive import no_room, refuse

DONE: dict[Kind, str] = {
    "stored": "The object counts as sent.",
    "warning": "The object counts as sent; the warning is kept with it.",
    "retry": "It is sent again after up to deliver.retry_cap_seconds, until deliver.give_up_hours are over.",
    "permanent": f"After {PERMANENT_TRIES} such answers in a row it is DEAD, and goes again when a person says so.",
}
"""What the sender does; `pipeline.deliver` decides by these kinds."""
AGAIN_ONCE = "The object's next form goes, if it has one; else it is sent once more, and then it is DEAD."


@dataclass(frozen=True)
class Answer:
    """A status of a response, and when it is given."""

    code: int
    when: str

    @property
    def words(self) -> str:
        return classify(self.code).words


STORE = (
    Answer(0x0000, "The bytes, the name and the row of the instance are on stable storage, or were before."),
    Answer(
        incoming.OUT_OF_RESOURCES,
        "The instance is larger than listener.instance_limit_mb, or it could not be kept. The sender may try again.",
    ),
    Answer(
        DOES_NOT_MATCH,
        "A UID of the data set is missing or none (SOP Class, SOP Instance, Study, Series), or SOP Class or Instance "
        "UID differ from the command's.",
    ),
    Answer(CANNOT_UNDERSTAND, "The data set cannot be parsed."),
    Answer(incoming.PROCESSING_FAILURE, "A fault of this node; its log has a line. The sender may try again."),
    Answer(incoming.NOT_AUTHORISED, 'The peer may associate and may not "send".'),
)
"""To a C-STORE-RQ."""

COMMIT = (
    Answer(0x0000, "The request is kept; a report follows."),
    Answer(incoming.NOT_AUTHORISED, 'listener.commit is false, or the peer may not "send".'),
    Answer(incoming.RESOURCE_LIMITATION, "As many requests of this peer wait as are kept."),
    Answer(incoming.DUPLICATE_TRANSACTION_UID, "The Transaction UID was used for other instances."),
    Answer(incoming.NO_SUCH_ACTION, "Another Action Type ID than 1."),
    Answer(incoming.INVALID_ARGUMENT_VALUE, "A UID or the Referenced SOP Sequence is missing or not valid."),
    Answer(incoming.NO_SUCH_CLASS, "Another SOP class than the Push Model."),
    Answer(incoming.NO_SUCH_INSTANCE, "Another SOP instance than the well-known one."),
    Answer(incoming.PROCESSING_FAILURE, "A fault of this node; its log has a line."),
)
"""To an N-ACTION-RQ of storage commitment."""

REPORT = (
    Answer(0x0000, "The report is recorded, also when it comes twice."),
    Answer(incoming.INVALID_ARGUMENT_VALUE, "The transaction is not one of this node's, or a UID is not valid."),
    Answer(incoming.NO_SUCH_EVENT_TYPE, "Another Event Type ID than 1 and 2."),
    Answer(incoming.NO_SUCH_CLASS, "Another SOP class than the Push Model."),
    Answer(incoming.NO_SUCH_INSTANCE, "Another SOP instance than the well-known one."),
    Answer(incoming.NOT_AUTHORISED, "The association ended meanwhile."),
    Answer(incoming.PROCESSING_FAILURE, "A fault of this node; its log has a line."),
)
"""To an N-EVENT-REPORT-RQ of storage commitment."""

FAILURES = (
    Answer(incoming.NO_SUCH_INSTANCE, "The instance was never received, or its file is not here any more."),
    Answer(incoming.CLASS_INSTANCE_CONFLICT, "The instance was received as another SOP class."),
    Answer(incoming.PROCESSING_FAILURE, "The file is not what was received, or cannot be read."),
)
"""Failure Reasons in an N-EVENT-REPORT-RQ of this node."""


def given(caption: str, answers: tuple[Answer, ...]) -> Table:
    rows = tuple((f"{one.code:04X}", one.words, one.when) for one in answers)
    return Table(caption, ("Status", "Further meaning", "Given when"), rows)


def taken() -> Table:
    """What the sender makes of the answers of peers; of one in no row it makes what it makes of the last row."""
    rows = [
        (f"{first:04X}" if first == last else f"{first:04X} to {last:04X}", words, DONE[kind])
        for first, last, kind, words in meanings()
    ]
    rows = [
        (code, words, AGAIN_ONCE if code == f"{SOP_CLASS_NOT_SUPPORTED:04X}" else done) for code, words, done in rows
    ]
    unknown = classify(0x0FFF)
    rows.append(("any other", unknown.words, DONE[unknown.kind]))
    rows.append(("no answer", "the association was lost, or the answer took too long", DONE["retry"]))
    return Table("Statuses of C-STORE responses of peers", ("Status", "Meaning", "Behaviour"), tuple(rows))


def rejections(settings: Settings) -> Table:
    stranger = refuse(Requestor("", settings.node.ae_title, "192.0.2.1", 0), settings)
    assert stranger, "nobody without an AE title from a documentation address is a peer"
    reasons: tuple[tuple[Rejection, str], ...] = (
        (incoming.CALLED_AE_TITLE, f"The called AE title is not {settings.node.ae_title}."),
        (
            stranger,
            "No peer of the settings has this calling AE title, or it comes from another network, in plain where TLS "
            "is asked for, or with another certificate; without peers: it comes from another machine.",
        ),
        (incoming.MAX_ASSOCIATIONS, "As many associations are open as listener.max_associations."),
        (no_room(settings), f"Less than {settings.listener.reserve_mb} MB are free (listener.reserve_mb)."),
        (incoming.STOPPING, "The node is being stopped."),
        (incoming.FAILED, "A fault of this node; its log has a line."),
    )
    rows = tuple(
        (*map(str, (r.result, r.source, r.diagnostic)), rejection(r.result, r.source, r.diagnostic), when)
        for r, when in reasons
    )
    return Table("Rejections of association requests", ("Result", "Source", "Reason", "Meaning", "Given when"), rows)
