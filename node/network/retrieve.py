"""C-GET and C-MOVE of whole studies (PS3.4 C.4.2, C.4.3): a peer by DIMSE, as a `Source`.

What C-GET brings is written as it comes, undecoded, into Part 10 files of one folder. What C-MOVE brings comes to the
listener like every study; here is only heard how far it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from node.domain import Pair
from node.errors import AssociationFailed, ContextRefused, PeerError
from node.network import contexts, stack
from node.network.find import Finder
from node.network.incoming import OUT_OF_RESOURCES, PROCESSING_FAILURE, Status
from node.network.link import MAXIMUM_CONTEXTS, Link, Target, open_link
from node.network.source import Arrived, Fetched, Found, Take, Wanted
from node.network.statuses import classify

log = logging.getLogger(__name__)

GET, MOVE = str(StudyRootQueryRetrieveInformationModelGet), str(StudyRootQueryRetrieveInformationModelMove)
SILENCE_SECONDS = 600.0
"""How long a peer may be silent: it may bring a study back from tape, and need not tell how far a C-MOVE is."""
PENDING = (0xFF00, 0xFF01)
DESTINATION_UNKNOWN = 0xA801  # PS3.4 Table C.4-2
# PS3.4 Tables C.4-2 and C.4-3, where they say more than the statuses of C-STORE
WORDS = {
    0xA701: "out of resources: it cannot count the matches",
    0xA702: "out of resources: it cannot perform the sub-operations",
    0xA900: "the identifier does not match the SOP class",
}
USUAL = (
    "1.2.840.10008.5.1.4.1.1.1.",
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.12",
    "1.2.840.10008.5.1.4.1.1.13",
    "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.88",
)
"""How the UIDs of the classes begin that are proposed to a peer that does not say what a study holds."""

How = Literal["auto", "get", "move"]


def nothing_to_do(study_instance_uid: str) -> None:
    """For C-MOVE without anybody to tell."""


class GetRefused(AssociationFailed):
    """The peer offers no C-GET."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


@dataclass(frozen=True)
class _Final:
    """The last answer to a C-GET or C-MOVE, with the sub-operations that it counts."""

    status: int
    comment: str
    completed: int
    failed: int


class Retriever:
    """A peer that is queried and retrieved from by DIMSE; used by one thread at a time.

    `how`: "auto" takes C-GET where the peer offers it, else C-MOVE to `target.calling_ae_title`. Files go into `folder`
    (mode 0600), of at most `instance_limit` bytes. `moving` is told, before a C-MOVE and with each of its answers, of
    which study. `silence`: seconds.
    """

    def __init__(
        self,
        target: Target,
        *,
        how: How = "auto",
        folder: Path,
        instance_limit: int,
        moving: Callable[[str], None] = nothing_to_do,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._target = target
        self._how: How = how
        self._folder = folder
        self._limit = instance_limit
        self._moving = moving
        self._silence = silence
        self._finder = Finder(target, silence=silence)
        self._link: Link | None = None
        self._files: stack.TemporaryFiles | None = None
        self._desk: _Desk | None = None

    def find(self, wanted: Wanted) -> Iterator[Found]:
        return self._finder.studies(wanted)

    def count(self, study_instance_uid: str) -> int | None:
        return self._finder.count(study_instance_uid)

    def fetch(self, study_instance_uid: str, take: Take) -> Fetched:
        """Bring one study; with C-MOVE `taken` is what the peer says that it sent."""
        if self._how != "move":
            try:
                return self._get(study_instance_uid, take)
            except GetRefused as refused:
                if self._how == "get":
                    raise
                log.info("retrieve.by-move called=%r reason=%r", self._target.called_ae_title, str(refused))
                self._how = "move"
        return self._move(study_instance_uid)

    def close(self) -> None:
        self._finder.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._link:
            assoc = self._link.assoc
            self._link.close()
            self._link = None
            if self._files:
                self._files.discard(assoc)
                self._files = None

    def _get(self, uid: str, take: Take) -> Fetched:
        link = self._ask_to_get(self._finder.sop_classes(uid))
        self._desk = desk = _Desk(take, self._files)
        try:
            final = _performed(link, GET, uid, self._silence, lambda: None)
        except PeerError:
            if desk.broken:
                raise desk.broken from None
            raise
        finally:
            self._desk = None
        failed = max(final.failed, desk.refused)
        if final.status == 0x0000 and not failed:
            return Fetched(desk.taken)
        return Fetched(desk.taken, failed or 1, desk.reason or _reason(final, failed))

    def _ask_to_get(self, sop_classes: Sequence[str]) -> Link:
        """An association on which this side is the SCP of what it brings (PS3.4 C.5.3.1).

        Raises:
            GetRefused: the peer does not offer that.
        """
        wanted = storage_pairs(sop_classes)
        if self._link and self._link.alive and self._link.proposed.issuperset(wanted):
            return self._link
        self._let_go()
        model = [(GET, str(syntax)) for syntax in contexts.UNCOMPRESSED]
        try:
            self._link = link = open_link(
                self._target,
                [*model, *wanted],
                scp_of=list(dict.fromkeys(sop_class for sop_class, _ in wanted)),
                handlers=[(evt.EVT_C_STORE, self._on_store)],
            )
        except ContextRefused:
            raise GetRefused(f'{self._target} offers no C-GET: retrieve = "move" brings it by C-MOVE') from None
        brings = [c for c in link.assoc.accepted_contexts if c.as_scp and str(c.abstract_syntax) != GET]
        if not brings or not link.accepted.intersection(model):
            self._let_go()
            what = "no C-GET" if brings else "no SOP class of this study by C-GET"
            raise GetRefused(f'{self._target} offers {what}: retrieve = "move" brings it by C-MOVE')
        # Not "incoming-": those are swept when the listener starts, and it may while this runs
        self._files = stack.TemporaryFiles(link.assoc.ae, self._folder, limit=self._limit, prefix="pulled-")
        return link

    def _on_store(self, event: Any) -> Any:
        return self._desk.on_store(event) if self._desk else Status(PROCESSING_FAILURE).data_set

    def _move(self, uid: str) -> Fetched:
        self._moving(uid)
        try:
            link = open_link(self._target, [(MOVE, str(syntax)) for syntax in contexts.UNCOMPRESSED])
        except ContextRefused:
            raise AssociationFailed(
                f"{self._target} offers no C-MOVE{' and no C-GET' if self._how == 'auto' else ''}: nothing can be "
                "brought from it by DIMSE",
                permanent=True,
            ) from None
        try:
            final = _performed(link, MOVE, uid, self._silence, lambda: self._moving(uid))
        finally:
            link.close()
        if final.status == DESTINATION_UNKNOWN:
            here = self._target.calling_ae_title
            raise AssociationFailed(
                f'{self._target} does not know the move destination "{here}" (0xA801): add "{here}" with this '
                "machine's address and the port of [listener] to the destinations there",
                permanent=True,
            )
        if final.status == 0x0000 and not final.failed:
            return Fetched(final.completed)
        return Fetched(final.completed, final.failed or 1, _reason(final, final.failed))


class _Desk:
    """Takes the instances of one C-GET: what was taken, what was refused and why."""

    def __init__(self, take: Take, files: stack.TemporaryFiles | None) -> None:
        self._take = take
        self._files = files
        self.taken = 0
        self.refused = 0
        self.reason = ""
        self.broken: Exception | None = None

    def on_store(self, event: Any) -> Any:
        request, path = event.request, Path(event.dataset_path)
        if self._files and self._files.too_long(path):
            status = Status(OUT_OF_RESOURCES, "larger than listener.instance_limit_mb")
        else:
            arrived = Arrived(
                str(request.AffectedSOPClassUID),
                str(request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                path,
            )
            try:
                status = self._take(arrived)
            except Exception as error:  # pynetdicom would swallow it, and go on
                self.broken = error
                event.assoc.abort()
                return Status(PROCESSING_FAILURE).data_set
        if status.code == 0x0000:
            self.taken += 1
        else:
            self.refused += 1
            self.reason = self.reason or f"not taken: {status.comment or f'0x{status.code:04X}'}"
        return status.data_set


def storage_pairs(sop_classes: Sequence[str]) -> list[Pair]:
    """What is proposed to bring these SOP classes, in as many transfer syntaxes as 128 contexts hold; of a study of
    which nothing is known, the usual ones."""
    known = [uid for uid in dict.fromkeys(sop_classes) if uid in contexts.STORAGE]
    room = MAXIMUM_CONTEXTS - len(contexts.UNCOMPRESSED)
    if not known:
        usual = [str(uid) for uid in contexts.STORAGE if str(uid).startswith(USUAL)]
        # of many classes two contexts each: what is stored compressed its owner can decompress
        known = usual[: room // 2]
    syntaxes = [*contexts.UNCOMPRESSED, *contexts.LOSSLESS, *contexts.LOSSY]
    each = max(room // len(known), 1)
    return [(str(uid), str(syntax)) for uid in known[:room] for syntax in syntaxes[:each]]


def _performed(link: Link, model: str, uid: str, silence: float, heard: Callable[[], None]) -> _Final:
    """Ask for one study and wait until its sub-operations are over.

    Raises:
        PeerError: there was no last answer; what came until then was taken.
    """
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = uid
    final: _Final | None = None
    message = link.next_message()
    try:
        with link.while_it_speaks(silence):
            if model == GET:
                answers: Any = link.assoc.send_c_get(ds, model, msg_id=message)
            else:
                answers = link.assoc.send_c_move(ds, link.target.calling_ae_title, model, msg_id=message)
            for answer, _ in answers:
                if answer.get("Status") in PENDING:
                    heard()
                elif "Status" in answer:
                    final = _final(answer)
    except (RuntimeError, ValueError, OSError) as error:
        raise PeerError(f"{link.target}: {error}") from None
    finally:
        if final is None and link.alive:
            with suppress(RuntimeError, ValueError):
                link.assoc.send_c_cancel(message, query_model=model)
            link.assoc.abort()
    if final is None:
        raise PeerError(f"{link.target} {link.lost()} to the {'C-GET' if model == GET else 'C-MOVE'}")
    return final


def _final(answer: Dataset) -> _Final:
    completed, failed, warned = (
        int(answer.get(f"NumberOf{kind}Suboperations") or 0) for kind in ("Completed", "Failed", "Warning")
    )
    # PS3.4 C.4.2.1.8: a sub-operation with a warning was performed
    return _Final(int(answer.Status), str(answer.get("ErrorComment", "")), completed + warned, failed)


def _reason(final: _Final, failed: int) -> str:
    """What a last answer says that is no success, in words."""
    said = f" ({final.comment})" if final.comment else ""
    if final.status in (0x0000, 0xB000):
        return f"the peer could not send {failed or 'all'} of its instances{said}"
    words = WORDS.get(final.status)
    return f"answered 0x{final.status:04X}, {words}{said}" if words else classify(final.status, final.comment).error
