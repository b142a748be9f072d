"""The audit trail: who moved and looked at whose studies, as DICOM audit messages (PS3.15 A.5). It names patients and
people, and is the only thing of the node besides images, results and rows that does.

Messages follow from rows, by a sweep of the dispatch role; only what a person does is put down as it happens.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from blake3 import blake3

from config.settings import Settings
from node.domain import Study
from node.errors import OverreadError, PeerError
from node.network import syslog
from node.storage import auditing
from node.storage.auditing import Moved, Queue, Rejected
from node.storage.store import Store

log = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
RETRY_SECONDS = 30.0
BATCH = 100

Code = tuple[str, str, str]
"""Code Value, Coding Scheme, Code Meaning (PS3.16 CID 400 to 405)."""
ACTIVITY: Code = ("110100", "DCM", "Application Activity")
ACCESSED: Code = ("110103", "DCM", "DICOM Instances Accessed")
TRANSFERRED: Code = ("110104", "DCM", "DICOM Instances Transferred")
ALERT: Code = ("110113", "DCM", "Security Alert")
AUTHENTICATION: Code = ("110114", "DCM", "User Authentication")
START: Code = ("110120", "DCM", "Application Start")
STOP: Code = ("110121", "DCM", "Application Stop")
LOGIN: Code = ("110122", "DCM", "Login")
LOGOUT: Code = ("110123", "DCM", "Logout")
NODE_AUTHENTICATION: Code = ("110126", "DCM", "Node Authentication")
SECURITY_CONFIGURATION: Code = ("110129", "DCM", "Security Configuration")
APPLICATION: Code = ("110150", "DCM", "Application")
DESTINATION: Code = ("110152", "DCM", "Destination Role ID")
SOURCE: Code = ("110153", "DCM", "Source Role ID")
STUDY: Code = ("110180", "DCM", "Study Instance UID")
NODE_ID: Code = ("110182", "DCM", "Node ID")
PATIENT: Code = ("2", "RFC-3881", "Patient Number")

FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Outcome = Literal["0", "4", "8", "12"]
"""Success, minor failure, serious failure, major failure (PS3.15 A.5.2)."""


class Writer:
    """Makes messages of one node."""

    def __init__(self, settings: Settings) -> None:
        self._ae_title = settings.node.ae_title
        self._site = settings.node.organisation
        self._host = socket.gethostname() or "localhost"
        self._peers = {peer.name: peer for peer in settings.peer}

    def activity(self, kind: Code, *, at: float) -> str:
        """The application was started or stopped (PS3.15 A.5.3.1)."""
        message = self._message(ACTIVITY, "E", at, types=[kind])
        self._ourselves(message, APPLICATION, requestor=False)
        return self._done(message)

    def received(self, moved: Moved) -> str:
        """Instances came (A.5.3.7)."""
        message = self._message(TRANSFERRED, "C", moved.at)
        sender = moved.peer or moved.calling_ae_title or moved.address
        _participant(message, sender, SOURCE, titles=moved.calling_ae_title, address=moved.address, requestor=True)
        self._ourselves(message, DESTINATION, requestor=False)
        return self._done(message, moved)

    def sent(self, moved: Moved) -> str:
        """Results left (A.5.3.7)."""
        message = self._message(TRANSFERRED, "R", moved.at)
        self._ourselves(message, SOURCE, requestor=True)
        peer = self._peers.get(moved.peer)
        titles, address = (peer.ae_title, peer.host) if peer else ("", "")
        user = peer.url if peer and peer.url else moved.peer
        _participant(message, user, DESTINATION, titles=titles, address=address, requestor=False)
        return self._done(message, moved)

    def rejected(self, one: Rejected) -> str:
        """Somebody was not let in (A.5.3.11)."""
        message = self._message(ALERT, "E", one.at, outcome="4", types=[NODE_AUTHENTICATION])
        self._ourselves(message, APPLICATION, requestor=False)
        caller = one.calling_ae_title or one.address
        _participant(message, caller, None, titles=one.calling_ae_title, address=one.address, requestor=True)
        text = f"{one.times} associations rejected: {one.rule}; called {one.called_ae_title}"
        _object(message, one.address, NODE_ID, kind="2", role="", description=text)
        return self._done(message)

    def configured(self, *, at: float) -> str:
        """The node runs with other settings than before (A.5.3.11)."""
        message = self._message(ALERT, "E", at, types=[SECURITY_CONFIGURATION])
        self._ourselves(message, APPLICATION, requestor=True)
        text = "the settings of the node have changed"
        _object(message, self._host, NODE_ID, kind="2", role="", description=text)
        return self._done(message)

    def authenticated(self, person: str, kind: Code, *, well: bool, address: str, at: float) -> str:
        """A person logged in or out, or tried to (A.5.3.12)."""
        message = self._message(AUTHENTICATION, "E", at, outcome="0" if well else "4", types=[kind])
        _participant(message, person, None, address=address, requestor=True)
        self._ourselves(message, None, requestor=False)
        return self._done(message)

    def accessed(self, person: str, study: Study, *, address: str, at: float) -> str:
        """A person looked at a study (A.5.3.4)."""
        message = self._message(ACCESSED, "R", at)
        _participant(message, person, None, address=address, requestor=True)
        self._ourselves(message, APPLICATION, requestor=False)
        return self._done(message, Moved(at, study, "", "", "", ()))

    def _message(
        self, event: Code, action: str, at: float, *, outcome: Outcome = "0", types: Sequence[Code] = ()
    ) -> ET.Element:
        message = ET.Element("AuditMessage")
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {"EventActionCode": action, "EventDateTime": when, "EventOutcomeIndicator": outcome}
        about = ET.SubElement(message, "EventIdentification", said)
        _coded(about, "EventID", event)
        for kind in types:
            _coded(about, "EventTypeCode", kind)
        return message

    def _ourselves(self, message: ET.Element, role: Code | None, *, requestor: bool) -> None:
        user = f"{self._ae_title}@{self._host}"
        _participant(message, user, role, titles=self._ae_title, address=self._host, requestor=requestor)

    def _done(self, message: ET.Element, moved: Moved | None = None) -> str:
        source = {"AuditSourceID": self._ae_title} | ({"AuditEnterpriseSiteID": self._site} if self._site else {})
        # PS3.15 A.5.1: after the participants, before the objects
        at = sum(child.tag != "ParticipantObjectIdentification" for child in message)
        message.insert(at, ET.Element("AuditSourceIdentification", source))
        if moved:
            _study(message, moved)
        for element in message.iter():
            element.text = element.text and _allowed(element.text)
            element.attrib.update({name: _allowed(value) for name, value in element.attrib.items()})
        return ET.tostring(message, encoding="unicode")


def _allowed(text: str) -> str:
    """What XML 1.0 (2.2, Char) has no place for is replaced: a sender's values must not spoil the message."""
    return FORBIDDEN.sub("\ufffd", text)


def _participant(
    message: ET.Element, user: str, role: Code | None, *, titles: str = "", address: str = "", requestor: bool
) -> None:
    said = {"UserID": user, "UserIsRequestor": str(requestor).lower()}
    if titles:
        said["AlternativeUserID"] = f"AETITLES={titles}"
    if address:
        # PS3.15 A.5.2: 2 is an IP address, 1 a machine's name
        kind = "2" if address.replace(".", "").isdigit() or ":" in address else "1"
        said |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": kind}
    one = ET.SubElement(message, "ActiveParticipant", said)
    if role:
        _coded(one, "RoleIDCode", role)


def _study(message: ET.Element, moved: Moved) -> None:
    """The study, by what of it was moved, and its patient."""
    study = moved.study
    about = _object(message, study.study_instance_uid, STUDY, kind="2", role="3")
    classes = Counter(sop_class for sop_class, _ in moved.instances)
    if classes or study.accession_number:
        described = ET.SubElement(about, "ParticipantObjectDescription")
        if study.accession_number:
            ET.SubElement(described, "Accession", {"Number": study.accession_number})
        for sop_class, n in classes.items():
            ET.SubElement(described, "SOPClass", {"UID": sop_class, "NumberOfInstances": str(n)})
    _object(message, study.patient_id or "unknown", PATIENT, kind="1", role="1")


def _object(
    message: ET.Element, identifier: str, id_type: Code, *, kind: str, role: str, description: str = ""
) -> ET.Element:
    said = {"ParticipantObjectID": identifier, "ParticipantObjectTypeCode": kind}
    if role:
        said["ParticipantObjectTypeCodeRole"] = role
    one = ET.SubElement(message, "ParticipantObjectIdentification", said)
    _coded(one, "ParticipantObjectIDTypeCode", id_type)
    ET.SubElement(one, "ParticipantObjectName").text = description or identifier
    return one


def _coded(above: ET.Element, name: str, code: Code) -> None:
    value, scheme, meaning = code
    ET.SubElement(above, name, {"csd-code": value, "codeSystemName": scheme, "originalText": meaning})


def person() -> str:
    """Who types commands on this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def opened(store: Store, settings: Settings, person: str, study: Study, *, address: str = "", now: float) -> None:
    """A person looks at a study, here or by the dashboard."""
    _at_once(store, settings, Writer(settings).accessed(person, study, address=address, at=now), now)


def authenticated(
    store: Store, settings: Settings, person: str, *, login: bool, well: bool = True, address: str = "", now: float
) -> None:
    """A person logged in (`well`: or failed to) or out."""
    kind = LOGIN if login else LOGOUT
    _at_once(store, settings, Writer(settings).authenticated(person, kind, well=well, address=address, at=now), now)


def _at_once(store: Store, settings: Settings, text: str, now: float) -> None:
    if settings.audit.sinks:
        auditing.put(store, [text], queue_of(settings), now=now)


def queue_of(settings: Settings) -> Queue:
    return Queue(settings.audit.sinks, settings.audit.queue)


class Auditor:
    """Tells what is new, and writes what waits. One for a node, in the dispatch role."""

    def __init__(self, store: Store, *, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock or store.now
        self._writer = Writer(settings)
        self._queue = queue_of(settings)
        self._begun = False
        self._swept_at = -SWEEP_SECONDS
        self._rest_until: dict[str, float] = {}

    def step(self) -> int:
        """Tell and write; how many messages were written."""
        now = self._clock()
        if not self._begun:
            self._begin(now)
        if not 0 <= now - self._swept_at < SWEEP_SECONDS:
            self._swept_at = now
            self.sweep(now)
        return sum(self._write(sink, now) for sink in self._queue.sinks)

    def _begin(self, now: float) -> None:
        auditing.begin(self._store)
        texts = [self._writer.activity(START, at=now)]
        said = blake3(self._settings.model_dump_json().encode()).hexdigest()
        if auditing.changed(self._store, "settings", said):
            texts.append(self._writer.configured(at=now))
        auditing.put(self._store, texts, self._queue, now=now)
        self._begun = True

    def sweep(self, now: float) -> None:
        """Put down messages about all that is new."""
        for look, said in (
            (auditing.received, self._writer.received),
            (auditing.sent, self._writer.sent),
        ):
            while look(self._store, said, self._queue, now=now):
                continue
        while auditing.rejected(self._store, self._writer.rejected, self._queue, now=now):
            continue

    def _write(self, sink: str, now: float) -> int:
        if 0 < self._rest_until.get(sink, 0.0) - now <= RETRY_SECONDS:
            return 0
        waiting = auditing.waiting(self._store, sink, BATCH)
        if not waiting:
            return 0
        texts = [text for _, text in waiting]
        try:
            if sink == "file":
                assert self._settings.audit.file
                append(self._settings.audit.file, texts)
            else:
                syslog.send(server_of(self._settings), texts, now=now)
        except OverreadError as error:
            log.error("audit.not-written sink=%s waiting=%d reason=%r", sink, len(waiting), str(error))
            self._rest_until[sink] = now + RETRY_SECONDS
            return 0
        auditing.written(self._store, [row for row, _ in waiting])
        return len(waiting)

    def rest(self) -> None:
        """Nothing is held between two sweeps."""

    def close(self) -> None:
        """The node stops: the last messages, as far as they can be written now."""
        with contextlib.suppress(OverreadError):
            now = self._clock()
            self.sweep(now)
            auditing.put(self._store, [self._writer.activity(STOP, at=now)], self._queue, now=now)
            for sink in self._queue.sinks:
                while self._write(sink, now):
                    continue


def server_of(settings: Settings) -> syslog.Server:
    host, port = settings.audit.address
    said = settings.audit
    return syslog.Server(host, port, said.authorities, said.certificate, said.key)


def append(file: Path, texts: Sequence[str]) -> None:
    """One line each, on stable storage; the file is opened anew, as logrotate may have moved it.

    Raises:
        PeerError: it could not be written.
    """
    data = "".join(f"{' '.join(text.splitlines())}\n" for text in texts).encode()
    try:
        fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            with os.fdopen(fd, "ab", closefd=False) as out:
                out.write(data)
                out.flush()
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise PeerError(f"{file}: the audit trail cannot be written: {error.strerror}") from None
