"""One study as a person reads it: who sent it, what was decided, found, sent and proven. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from models.bundle import Bundle, BundleError, Label
from models.findings import Presence
from models.registry import Registry
from node.domain import Delivery, Event, FindingRow, Instance, Job, Matched, Origin, Priority, Result, Study
from node.results.summary import called
from node.storage import deliveries, events, instances, jobs, studies
from node.storage.store import Store

ORDER = (Presence.PRESENT, Presence.UNDETERMINED, Presence.ABSENT, "")


@dataclass(frozen=True)
class Bar:
    """One finding of one image, beside the limits of its model. Where the bundle is gone there are no limits."""

    name: str
    score: float | None
    figure: str
    presence: str
    lower: float | None = None
    threshold: float | None = None
    limit: str = ""


@dataclass(frozen=True)
class Image:
    """What a job says of one image, or one frame of it."""

    instance_id: int
    frame: int
    status: str
    reason: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Ran:
    """One job with what it found and what was made of it."""

    job: Job
    images: tuple[Image, ...]
    results: tuple[Result, ...]

    @property
    def urgent(self) -> str:
        return "" if self.job.priority is Priority.ROUTINE else self.job.priority.name


@dataclass(frozen=True)
class Came:
    """One association that brought instances of the study."""

    origin: Origin
    instances: int


@dataclass(frozen=True)
class Story:
    study: Study
    associations: tuple[Came, ...]
    instances: tuple[Instance, ...]
    routes: tuple[Matched, ...]
    runs: tuple[Ran, ...]
    deliveries: tuple[Delivery, ...]
    events: tuple[Event, ...]

    def sent(self, result: Result) -> list[Delivery]:
        return [d for d in self.deliveries if d.result_id == result.id]


def story(store: Store, bundles: Registry, study: Study) -> Story:
    """Everything that is remembered of a study; the newest revision's jobs first."""
    members = instances.of_study(store, study.id)
    made = jobs.results(store, study.id)
    ran = sorted(jobs.of_study(store, study.id), key=lambda job: (-job.revision, job.id))
    runs = [Ran(job, _images(store, bundles, job), tuple(r for r in made if r.job_id == job.id)) for job in ran]
    return Story(
        study,
        _came(store, members),
        tuple(members),
        tuple(studies.route_reasons(store, study)),
        tuple(runs),
        tuple(deliveries.of_study(store, study.id)),
        tuple(events.of_study(store, study.id)),
    )


def _came(store: Store, members: Sequence[Instance]) -> tuple[Came, ...]:
    numbers: dict[str, int] = {}
    for instance in members:
        numbers[instance.association] = numbers.get(instance.association, 0) + 1
    found = [(studies.origin(store, name), n) for name, n in numbers.items()]
    return tuple(sorted((Came(o, n) for o, n in found if o), key=lambda came: came.origin.started_at))


def _images(store: Store, bundles: Registry, job: Job) -> tuple[Image, ...]:
    bundle = _bundle(bundles, job)
    rows = groupby(jobs.findings(store, job.id), key=lambda row: (row.instance_id, row.frame))
    return tuple(_image(instance_id, frame, list(found), bundle) for (instance_id, frame), found in rows)


def _bundle(bundles: Registry, job: Job) -> Bundle | None:
    try:
        return bundles.find(job.bundle)
    except (BundleError, OSError):
        return None


def _image(instance_id: int, frame: int, rows: list[FindingRow], bundle: Bundle | None) -> Image:
    labels = {label.name: label for label in bundle.spec.labels} if bundle else {}
    calibrated = bundle is None or bundle.spec.calibration.method != "none"
    shared = Counter(label.finding.meaning for label in labels.values())
    bars = [_bar(row, labels.get(row.label), shared, calibrated=calibrated) for row in rows if row.label]
    bars.sort(key=lambda bar: (ORDER.index(bar.presence), -1.0 if bar.score is None else -bar.score))
    return Image(instance_id, frame, rows[0].status, rows[0].reason, tuple(bars))


def _bar(row: FindingRow, label: Label | None, shared: Counter[str], *, calibrated: bool) -> Bar:
    figure = "no score" if row.score is None else _figure(row.score, calibrated=calibrated)
    if label is None:
        return Bar(row.label, row.score, figure, row.presence)
    limit = f"present from {_figure(label.threshold, calibrated=calibrated)}"
    name = called(label.finding.meaning, label.name, shared=shared[label.finding.meaning] > 1)
    return Bar(name, row.score, figure, row.presence, label.lower, label.threshold, limit)


def _figure(score: float, *, calibrated: bool) -> str:
    return f"{100 * score:.1f} %" if calibrated else f"score {score:.3f}"
