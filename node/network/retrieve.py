"""C-GET and C-MOVE of whole studies (PS3.4 C.4.2, C.4.3): a peer by DIMSE, as a `Source`.

What C-GET brings is written as it comes, undecoded, into Part 10 files of one folder. What C-MOVE brings comes to the
listener like every study; here is only heard how far it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pynetdicom import evt

from node.domain import Pair
from node.errors import AssociationFailed, ContextRefused, PeerError
from node.network import contexts, stack
from node.network.find import Finder
from node.network.incoming import OUT_OF_RESOURCES, PROCESSING_FAILURE, Status
from node.network.link import MAXIMUM_CONTEXTS, Link, Target, open_link
from node.network.source import Arrived, Fetched, Found, Take, Wanted
from node.network.suboperations import (
    DESTINATION_UNKNOWN,
    GET,
    GET_PAIRS,
    MOVE,
    MOVE_PAIRS,
    perform,
    reason_of,
)

log = logging.getLogger(__name__)

SILENCE_SECONDS = 600.0
"""How long a peer may be silent: it may bring a study back from tape, and need not tell how far a C-MOVE is."""
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

SYNTAXES = (*contexts.UNCOMPRESSED, *contexts.LOSSLESS, *contexts.LOSSY)
"""What is proposed for each class, the first ones for many classes."""

How = Literal["auto", "get", "move"]


def nothing_to_do(study_instance_uid: str) -> None:
    """For C-MOVE without anybody to tell."""


class GetRefused(AssociationFailed):
    """The peer offers no C-GET."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class GetAborted(PeerError):
    """The peer takes the context and aborts when it is asked, before anything came: Orthanc does so to whom it does not
    allow C-GET."""


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
        self._gets = False
        """Something came by C-GET."""
        self._refused = False
        """C-GET was, and C-MOVE takes its place."""
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
                self._how, self._refused = "move", True
            except GetAborted as aborted:
                if self._how == "get" or self._gets:
                    raise
                return self._move_instead(study_instance_uid, aborted)
        return self._move(study_instance_uid)

    def _move_instead(self, uid: str, aborted: GetAborted) -> Fetched:
        """Where C-MOVE works it is used from now on; where it does not, the abort may have been the study's fault."""
        try:
            fetched = self._move(uid)
        except AssociationFailed as error:
            raise PeerError(f"{aborted}; and {error}") from None
        self._how, self._refused = "move", True
        return fetched

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
            final = perform(link, GET, uid, silence=self._silence)
        except PeerError as error:
            if desk.broken:
                raise desk.broken from None
            if link.aborted and not desk.taken and not desk.refused:
                here = self._target.calling_ae_title
                raise GetAborted(f'{error}: see whether "{here}" may ask by C-GET there') from None
            raise
        finally:
            self._desk = None
            self._gets = self._gets or desk.taken > 0
        failed = max(final.failed, desk.refused)
        if final.status == 0x0000 and not failed:
            return Fetched(desk.taken)
        return Fetched(desk.taken, failed or 1, desk.reason or reason_of(final, failed))

    def _ask_to_get(self, sop_classes: Sequence[str]) -> Link:
        """An association on which this side is the SCP of what it brings (PS3.4 C.5.3.1).

        Raises:
            GetRefused: the peer does not offer that.
        """
        wanted = storage_pairs(sop_classes)
        if self._link and self._link.alive and self._link.proposed.issuperset(wanted):
            return self._link
        self._let_go()
        try:
            self._link = link = open_link(
                self._target,
                [*GET_PAIRS, *wanted],
                scp_of=list(dict.fromkeys(sop_class for sop_class, _ in wanted)),
                handlers=[(evt.EVT_C_STORE, self._on_store)],
            )
        except ContextRefused:
            raise GetRefused(f'{self._target} offers no C-GET: retrieve = "move" brings it by C-MOVE') from None
        brings = [c for c in link.assoc.accepted_contexts if c.as_scp and str(c.abstract_syntax) != GET]
        if not brings or not link.accepted.intersection(GET_PAIRS):
            self._let_go()
            what = "no C-GET" if brings else "no SOP class of this study by C-GET"
            raise GetRefused(f'{self._target} offers {what}: retrieve = "move" brings it by C-MOVE')
        self._files = stack.TemporaryFiles(link.assoc.ae, self._folder, limit=self._limit)
        return link

    def _on_store(self, event: Any) -> Any:
        return self._desk.on_store(event) if self._desk else Status(PROCESSING_FAILURE).data_set

    def _move(self, uid: str) -> Fetched:
        self._moving(uid)
        try:
            link = open_link(self._target, MOVE_PAIRS)
        except ContextRefused:
            raise AssociationFailed(
                f"{self._target} offers no C-MOVE{' and no C-GET' if self._refused else ''}: nothing can be "
                "brought from it by DIMSE",
                permanent=True,
            ) from None
        try:
            final = perform(link, MOVE, uid, silence=self._silence, heard=lambda: self._moving(uid))
        finally:
            link.close()
        if final.status == DESTINATION_UNKNOWN:
            here = self._target.calling_ae_title
            raise AssociationFailed(
                f'{self._target} does not know the move destination "{here}", or cannot reach it (0xA801): add '
                f'"{here}" with this machine\'s address and the port of [listener] to the known AE titles there',
                permanent=True,
            )
        if final.status == 0x0000 and not final.failed:
            return Fetched(final.completed)
        return Fetched(final.completed, final.failed or 1, reason_of(final, final.failed))


class _Desk:
    """Takes the instances of one C-GET: what was taken, what was refused and why."""

    def __init__(self, take: Take, files: stack.TemporaryFiles | None) -> None:
        self._take = take
        self._files = files
        self.taken = 0
        self.refused = 0
        self.reason = ""
        self.broken: BaseException | None = None

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
            except BaseException as error:  # pynetdicom would swallow it, an interrupt too, and go on
                self.broken = error
                stack.give_up(event.assoc)
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
    each = max(room // len(known), 1)
    return [(str(uid), str(syntax)) for uid in known[:room] for syntax in SYNTAXES[:each]]
