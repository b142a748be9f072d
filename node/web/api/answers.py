"""What the API answers, as models: they take what they show from the node's records, and leave out where files lie."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

from node.domain import DeliveryState, Gone, InstanceState, JobState, Priority, State, StudyState


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True, validate_by_name=True, frozen=True)


class Problem(BaseModel):
    """Why something was not done, or cannot be had."""

    detail: str


WHY = {
    401: "Nobody is logged in, and there is no API token, or not one that is in force.",
    403: "The account's role may not do this, or a script of a page did not bring the form's token.",
    404: "There is no such row, or no such name.",
    409: "It cannot be done as things stand; the answer says why.",
    422: "The address cannot be read.",
    503: "The database does not answer.",
}


def told(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for its description."""
    return {code: {"model": Problem, "description": WHY[code]} for code in codes}


CHANGES = told(403, 404, 409)
"""What may come of an operation that changes something."""


def _words(states: type[State]) -> Any:
    return Field(description=" ".join(f"{s or 'Empty'}: {s.sentence}" for s in states))


Row = Annotated[int, Field(validation_alias="id", description="Its row number, as addresses have it.")]
Urgency = Annotated[
    str, BeforeValidator(lambda value: value.name), Field(description=", ".join(p.name for p in Priority))
]


class Study(Answer):
    row: Row
    state: Annotated[StudyState, _words(StudyState)]
    reason: str
    revision: int
    settled_by: str
    peer: str
    patient_id: str
    accession_number: str
    study_instance_uid: str
    log_id: Annotated[str, Field(description="As the log and `overread show` name it.")]
    first_received_at: float
    last_received_at: float
    settled_at: float | None


class Studies(Answer):
    studies: list[Study]
    next_before: Annotated[int | None, Field(description="Ask with `before` set to this for those that follow.")]


class Origin(Answer):
    calling_ae_title: str
    called_ae_title: str
    address: str
    peer: str
    started_at: float


class Came(Answer):
    """One association that brought instances of the study."""

    origin: Origin
    instances: int


class Instance(Answer):
    row: Row
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    digest: str
    size: int
    state: Annotated[InstanceState, _words(InstanceState)]
    differs: list[str]
    receipts: Annotated[int, Field(description="How often it came.")]
    received_at: float
    gone: Annotated[Gone, _words(Gone)]


class Matched(Answer):
    """What one route said of the study's last revision."""

    route: str
    instances: Annotated[int, BeforeValidator(len), Field(validation_alias="instance_ids", description="It takes.")]
    reason: str


class Choice(Answer):
    series_instance_uid: str
    name: str
    sentence: str


class Job(Answer):
    row: Row
    revision: int
    route: str
    bundle: str
    state: Annotated[JobState, _words(JobState)]
    reason: str
    priority: Urgency
    attempts: int
    created_at: float
    finished_at: float | None
    choice: Annotated[Choice | None, Field(description="Where it reads one series: which, and what of it.")]
    ran_with: Annotated[dict[str, Any] | None, Field(description="What produced the results; null until it finished.")]


class Finding(Answer):
    name: str
    score: float | None
    presence: str
    lower: float | None
    threshold: Annotated[float | None, Field(description="Null where the bundle is not there any more.")]


class Image(Answer):
    """What a job says of one image, or one frame of it."""

    instance_id: int
    frame: int
    status: str
    reason: str
    findings: Annotated[list[Finding], Field(validation_alias="bars")]


class Result(Answer):
    row: Row
    kind: str
    ordinal: int
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    digest: str
    created_at: float
    purged: bool
    quarantine: Annotated[str, Field(description="What its self-check found; such a result is never sent.")]
    withdrawn_at: float | None


class Ran(Answer):
    """One job with what it found and what was made of it."""

    job: Job
    images: list[Image]
    results: list[Result]


class Delivery(Answer):
    row: Row
    result_id: int
    study_id: int
    kind: str
    peer: str
    state: Annotated[DeliveryState, _words(DeliveryState)]
    reason: str
    attempts: int
    created_at: float
    sent_at: float | None
    due_at: float
    proof: Annotated[str, Field(description="How the peer proved that it keeps the object, or why it cannot.")]
    proven_at: float | None


class Deliveries(Answer):
    deliveries: list[Delivery]
    next_before: Annotated[int | None, Field(description="Ask with `before` set to this for those that follow.")]


class Event(Answer):
    at: float
    verb: str
    text: str


class Story(Answer):
    """One study from its associations to the proof that its results are kept; the newest revision's jobs first."""

    study: Study
    associations: list[Came]
    instances: list[Instance]
    routes: list[Matched]
    runs: list[Ran]
    deliveries: list[Delivery]
    events: list[Event]


class Retried(Answer):
    """How many jobs and deliveries are tried again, and about how many sent results peers are asked anew."""

    jobs: int
    deliveries: int
    proofs: int


class Settled(Answer):
    study: Study
    new: Annotated[bool, Field(description="It has a revision that it did not have before.")]
    why_not: str


class Difference(Answer):
    attribute: str
    was: str
    came: str
    differs: bool


class Contradiction(Answer):
    """One instance that contradicts its study, and what it is held against."""

    instance: Instance
    against: Instance | None
    differences: list[Difference]
    sentences: list[str]


class Held(Answer):
    study: Study
    contradictions: Annotated[list[Contradiction], Field(description="The first of them.")]
    instances: Annotated[int, Field(description="How many contradict.")]


class Decided(Answer):
    study: Study
    instances: int


class Echo(Answer):
    """One question to one peer; `seconds` until it answered, `error` in words where it did not."""

    peer: str
    at: float
    answered: bool
    seconds: float | None
    error: str


class Taken(Answer):
    """Which form of a kind of result a peer takes, when it was last asked."""

    taken: bool
    at: float
    words: str
    sop_class_uid: str | None = None
    transfer_syntax_uid: str | None = None


class Peer(Answer):
    name: Annotated[str, Field(validation_alias="peer")]
    ae_title: str
    place: str
    tls: bool
    may: list[str]
    takes: dict[str, Taken]
    echo: Echo | None
    deliver_to: Annotated[list[str], Field(description="Routes whose results go there.")]
    from_peers: Annotated[list[str], Field(description="Routes that name it as a sender.")]


class Label(Answer):
    name: str
    threshold: float


class Bundle(Answer):
    ref: str
    digest: str
    audit_verdict: str
    intended_use: Annotated[str, Field(validation_alias=AliasPath("spec", "intended_use"))]
    not_for: Annotated[str, Field(validation_alias=AliasPath("spec", "not_for"))]
    labels: Annotated[list[Label], Field(validation_alias=AliasPath("spec", "labels"))]


class Use(Answer):
    route: str
    mode: str
    deliver_to: list[str]


class Model(Answer):
    """One bundle, the routes that run it, and the bundles that ask it first."""

    bundle: Bundle
    uses: list[Use]
    gates: list[str]


class Setting(Answer):
    key: str
    value: Annotated[str, Field(description="As the settings file would have it; secrets are in files of their own.")]
    given: Annotated[bool, Field(description="Whether the file or the environment says other than the default.")]
    explanation: str


class Part(Answer):
    section: str
    name: str
    settings: list[Setting]


class Newest(Answer):
    row: int
    log_id: str
    state: StudyState
    revision: int
    last_received_at: float
    reason: str


class Status(Answer):
    """The node at a glance, without patient data; `well` is false when a person should look."""

    well: bool
    alarms: list[str]
    roles: Annotated[dict[str, dict[str, Any]], Field(description="What each process last noted, and whether it runs.")]
    counts: Annotated[dict[str, dict[str, int]], Field(description="Studies, jobs and deliveries by state.")]
    unsound: Annotated[int, Field(description="Results that failed their self-check.")]
    turnaround: Annotated[dict[str, dict[str, Any]], Field(description="Seconds of the last day, by urgency.")]
    latest: list[Newest]
