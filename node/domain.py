"""The nouns of the node, frozen, and the states that they pass through.

Rows leave the store as these records; nothing here knows files, sockets or SQL. Times are seconds since the
epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Self

Pair = tuple[str, str]
"""SOP Class UID, Transfer Syntax UID: what is proposed to a peer, and the form that an object goes in."""


class State(StrEnum):
    """A state and the sentence that explains it to a person."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


class StudyState(State):
    RECEIVING = "RECEIVING", "Instances are still arriving, or may be."
    SETTLED = "SETTLED", "Complete; which routes apply is being decided."
    ROUTED = "ROUTED", "At least one route matched; its jobs carry on."
    UNROUTED = "UNROUTED", "No route matched; nothing is analysed and nothing is sent."
    HELD = "HELD", "Instances contradict each other; a person must accept or reject them."


class InstanceState(State):
    CURRENT = "CURRENT", "Part of the study."
    RECEIPT = "RECEIPT", "Kept and never analysed: no image, or one of our own results."
    COMPARING = "COMPARING", "The same UID came again with other bytes; the pixels are to be compared."
    CONFLICT = "CONFLICT", "Contradicts the study; waits for a decision."
    DUPLICATE = "DUPLICATE", "The same image in another encoding; the first one counts."
    SUPERSEDED = "SUPERSEDED", "Replaced by an accepted correction."
    REJECTED = "REJECTED", "Refused by a person's decision."


class Gone(State):
    """What became of a file; the row and its state stay."""

    KEPT = "", "The file is in the spool."
    PURGED = "purged", "Deleted by the retention settings."
    LOST = "lost", "Not in the spool any more, and nobody purged it."


class JobState(State):
    QUEUED = "QUEUED", "Waits for a worker."
    LEASED = "LEASED", "A worker has it until its lease ends."
    DONE = "DONE", "At least one image was analysed; the results are stored."
    REFUSED = "REFUSED", "No image could be analysed; the results say why."
    DEAD = "DEAD", "Given up; the reason is kept and `overread retry` tries again."


class DeliveryState(State):
    QUEUED = "QUEUED", "Waits to be sent."
    LEASED = "LEASED", "Is being sent."
    SENT = "SENT", "The peer answered success; nothing yet proves that it kept the object."
    COMMITTED = "COMMITTED", "The peer proved that it keeps the object."
    OMITTED = "OMITTED", "The peer takes no object of this kind; another one says the same."
    DEAD = "DEAD", "Given up; the reason is kept and `overread retry` tries again."


class CommitmentState(State):
    ASKED = "ASKED", "A peer asked whether instances are kept; their digests are to be checked."
    CHECKED = "CHECKED", "Checked; the peer is to be told."
    REPORTED = "REPORTED", "The peer took the report."
    DEAD = "DEAD", "The peer could not be told; it may ask again."


class Priority(IntEnum):
    """How urgent a study is (PS3.3 C.4.11, Requested Procedure Priority); a lower number goes first. BULK is ours: what
    a pull brought, worked on when nothing else is due, however long it has waited."""

    STAT = 0
    HIGH = 1
    ROUTINE = 2
    LOW = 3
    BULK = 4


@dataclass(frozen=True)
class Pulled:
    """By which pull a study came. With a route it is read by that one only; in mode "shadow" nothing is delivered."""

    pull: int
    route: str = ""
    mode: str = ""

    @property
    def sentence(self) -> str:
        only = f", for route {self.route} only" if self.route else ""
        return f"pull #{self.pull}{only}{', shadow: nothing is delivered' if self.mode == 'shadow' else ''}"


@dataclass(frozen=True)
class Origin:
    """One association: who sent what it carried, and whether we had asked for it."""

    id: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    peer: str
    started_at: float
    pulled: Pulled | None = None


@dataclass(frozen=True)
class Received:
    """One instance as it came: identified, on disk, not yet remembered."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    size: int
    path: Path
    modality: str
    is_image: bool
    patient_id: str
    accession_number: str
    identification: Mapping[str, str]
    received_at: float
    """When the last byte was written: the file's own time, so that a rebuilt row has the same."""
    device_uid: str = ""


@dataclass(frozen=True)
class Study:
    id: int
    study_instance_uid: str
    log_id: str
    patient_id: str
    accession_number: str
    state: StudyState
    reason: str
    revision: int
    settled_by: str
    peer: str
    first_received_at: float
    last_received_at: float
    settled_at: float | None


@dataclass(frozen=True)
class Instance:
    id: int
    study_id: int
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    digest: str
    size: int
    path: Path
    state: InstanceState
    receipts: int
    differs: tuple[str, ...]
    association: str
    received_at: float
    gone: Gone = Gone.KEPT
    gone_at: float | None = None
    """When it was purged."""


@dataclass(frozen=True)
class Matched:
    """What one route said of one study: the instances that it takes, or why it takes none."""

    route: str
    instance_ids: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Choice:
    """Which frames of one series a job reads. What is said of them here is said in its results."""

    series_instance_uid: str
    name: str
    """The series as reasons call it, such as "series 3"."""
    frames: Mapping[str, tuple[int, ...]]
    """Numbers from 1 for each SOP Instance UID, in the order in which they are read."""
    sentence: str


@dataclass(frozen=True)
class Job:
    id: int
    study_id: int
    revision: int
    route: str
    bundle: str
    state: JobState
    attempts: int
    crashes: int
    fence: int
    due_at: float
    reason: str
    input_digest: str
    created_at: float
    finished_at: float | None
    priority: Priority = Priority.ROUTINE
    series_instance_uid: str = ""
    """The one series that the job reads; empty where it reads images of the whole study."""
    choice: Choice | None = None
    """Which frames of that series; None where the job reads images of the whole study."""
    ran_with: Mapping[str, Any] | None = None
    """What produced the results: bundle and gate by digest, settings, device, versions. None until it finished."""
    seconds: float | None = None
    """How long a worker had to do with it: its share of the batch in which it was read, and its results."""

    @property
    def name(self) -> str:
        """What a study's story calls it: its route, and its series."""
        return f"{self.route}, {self.choice.name}" if self.choice else self.route


@dataclass(frozen=True)
class Work:
    """A claimed job with all that the worker needs: nothing else of the database is asked for."""

    job: Job
    study: Study
    instances: tuple[Instance, ...]
    missing: tuple[str, ...]
    """SOP Instance UIDs of the job whose files are gone."""
    predecessors: tuple[Result, ...]
    """The Structured Reports of the previous revision of the same route and series."""


@dataclass(frozen=True)
class FindingRow:
    """What is remembered of one label of one image."""

    instance_id: int
    status: str
    reason: str
    label: str = ""
    score: float | None = None
    presence: str = ""
    frame: int = 1
    code: str = ""
    """One word for the reason, to be counted by; empty for an image that was analysed."""


@dataclass(frozen=True)
class Built:
    """A result object that was written to the spool and has no row yet."""

    kind: str
    ordinal: int
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    path: Path
    digest: str
    size: int
    quarantine: str = ""
    """What is wrong with it; empty when it may be sent."""


@dataclass(frozen=True)
class Result:
    id: int
    job_id: int
    study_id: int
    revision: int
    route: str
    kind: str
    ordinal: int
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    path: Path
    digest: str
    created_at: float
    purged: bool
    quarantine: str = ""
    """What is wrong with the object; it is kept aside and never sent. Empty for a sound one."""
    withdrawn_at: float | None = None


@dataclass(frozen=True)
class Form:
    """A result as one destination takes it: another SOP class, another transfer syntax, and its file."""

    sop_class_uid: str
    transfer_syntax_uid: str
    sop_instance_uid: str
    path: Path
    digest: str
    size: int


@dataclass(frozen=True)
class Delivery:
    id: int
    result_id: int
    study_id: int
    peer: str
    state: DeliveryState
    attempts: int
    fence: int
    due_at: float
    status: int | None
    reason: str
    created_at: float
    sent_at: float | None
    failing_since: float | None = None
    refusals: int = 0
    """How often in a row the peer refused for good."""
    kind: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    path: Path = field(default_factory=Path)
    form_id: int | None = None
    """The form in which the peer takes it, where it is not the result itself: class, instance and path are its."""
    transfer_syntax_uid: str = ""
    """That of the form; empty for the result itself."""
    proof: str = ""
    """How the peer proved that it keeps the object, or why it cannot."""
    proof_due_at: float | None = None
    proven_at: float | None = None
    transaction_uid: str = ""
    asks: int = 0
    resends: int = 0


@dataclass(frozen=True)
class Event:
    """One line of a study's story."""

    at: float
    verb: str
    text: str
