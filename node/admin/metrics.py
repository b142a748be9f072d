"""What Prometheus reads. Every value is a function of rows and files at the time of asking: no process counts anything
that would die with it, and whichever process is asked says the same.

Labels are names of the settings, of bundles and of this program, so there are few of them, and none is a patient's.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

import node
from config.settings import Settings
from node.errors import SettingsError
from node.network import tls
from node.storage import alarms, auditing, canaries, echoes, figures, hosts, quarantine, roles, tally
from node.storage.figures import Heap
from node.storage.spool import Spool
from node.storage.store import Store

KEPT_SECONDS = 15.0
"""What was read is said again for so long."""
SPOOL_SECONDS = 600.0
"""To add up the sizes of a million files takes longer than everything else."""
DAY = 86400.0

COUNTERS = {
    "settled": ("overread_settled_studies", "Studies that were settled, each revision once.", ()),
    "jobs": ("overread_ended_jobs", "Jobs that ended, by bundle and state.", ("bundle", "state")),
    "images": (
        "overread_images",
        "Images that models were asked about; reason is why one was refused or failed.",
        ("bundle", "status", "reason"),
    ),
    "findings": ("overread_findings", "Scores given, by what they mean.", ("bundle", "label", "presence")),
    "sent": ("overread_sent_results", "Results that a peer answered success to.", ("peer",)),
    "proven": ("overread_proven_results", "Results that a peer proved to keep.", ("peer",)),
}
HISTOGRAMS = {
    "seconds": (
        "overread_step_seconds",
        "Seconds of each step: settle (last image to jobs), infer (jobs to stored results), deliver (stored to sent), "
        "prove (sent to proven).",
        ("step", "priority"),
        tally.SECONDS,
    ),
    "scores": ("overread_score", "Scores of images, as they were given.", ("bundle", "label"), tally.SCORES),
}


@dataclass(frozen=True)
class Read:
    """What was read, and when."""

    families: tuple[Metric, ...]
    at: float
    seconds: float


class Exporter:
    """Reads at most every KEPT_SECONDS, whoever asks how often; the age of what it says is said too."""

    def __init__(
        self, settings: Settings, store: Store, spool: Spool, *, clock: Callable[[], float] | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._spool = spool
        self._clock = clock or store.now
        self._read: Read | None = None
        self._spool_bytes: tuple[float, int] | None = None
        self._lock = threading.Lock()

    def rendered(self, accept: str = "") -> tuple[bytes, str]:
        """The text that is asked for by an Accept header, and its Content-Type."""
        encode, content_type = choose_encoder(accept)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return encode(registry), content_type

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client asks."""
        with self._lock:
            now = self._clock()
            if self._read is None or not 0 <= now - self._read.at < KEPT_SECONDS:
                began = time.perf_counter()
                families = tuple(self._families(now))
                self._read = Read(families, now, time.perf_counter() - began)
            read = self._read
        yield from read.families
        yield _gauge("overread_metrics_age_seconds", "How old what is said here is.", now - read.at)
        yield _gauge("overread_metrics_read_seconds", "How long it took to read it.", read.seconds)

    def _families(self, now: float) -> Iterator[Metric]:
        yield _labelled("overread_info", "Version of this node.", ("version",), [((node.__version__,), 1)])
        yield from _heaps(figures.figures(self._store), now)
        text = "Seconds that the job has waited which is due longest; 0 where none is due."
        waits = [((urgency.name,), age) for urgency, age in figures.ages(self._store, now=now).items()]
        yield _labelled("overread_queue_age_seconds", text, ("priority",), waits)
        yield from _counted(self._store)
        yield from self._disk(now)
        yield from _people(self._settings, self._store, now)
        yield from _answers(self._settings, self._store)

    def _disk(self, now: float) -> Iterator[Metric]:
        space = os.statvfs(self._spool.root)
        reserve = self._settings.listener.reserve_mb * 1024**2
        yield _gauge("overread_disk_free_bytes", "Free where images are kept.", self._spool.free_bytes())
        yield _gauge("overread_disk_size_bytes", "Size of that disk.", space.f_blocks * space.f_frsize)
        yield _gauge("overread_disk_reserve_bytes", "Below so much free, associations are rejected.", reserve)
        if self._spool_bytes is None or not 0 <= now - self._spool_bytes[0] < SPOOL_SECONDS:
            self._spool_bytes = (now, figures.spool_bytes(self._store))
        text = "Images that are kept; added up every ten minutes."
        yield _gauge("overread_spool_bytes", text, self._spool_bytes[1])


def write(text: bytes, out: Path) -> None:
    """Put a file in the place of another, so that node_exporter's textfile collector never reads a half."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text)
        part.chmod(0o644)
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)


def _heaps(found: figures.Figures, now: float) -> Iterator[Metric]:
    """How much is in which state, and how long the oldest of what waits has been there."""
    one = {"studies": ("study", found.studies), "jobs": ("job", found.jobs)}
    for many, (noun, heaps) in one.items():
        yield _labelled(f"overread_{many}", f"{many.capitalize()} by state.", ("state",), _sizes(heaps))
        text = f"Seconds since the oldest {noun} that waits in this state came."
        ages = [((h.state,), now - h.oldest) for h in heaps if h.oldest is not None]
        yield _labelled(f"overread_{noun}_oldest_seconds", text, ("state",), ages)
    keys = ("peer", "state")
    sizes = [((h.peer, h.state), h.n) for h in found.deliveries]
    yield _labelled("overread_deliveries", "Deliveries by destination and state.", keys, sizes)
    old = [((h.peer, h.state), now - h.oldest) for h in found.deliveries if h.oldest is not None]
    text = "Seconds since the oldest delivery that waits in this state was made."
    yield _labelled("overread_delivery_oldest_seconds", text, keys, old)
    since: dict[tuple[str, ...], float] = {}
    for h in found.deliveries:
        if h.failing_since is not None:
            since[(h.peer,)] = max(since.get((h.peer,), 0), now - h.failing_since)
    text = "Seconds since a destination began to fail what still waits for it."
    yield _labelled("overread_delivery_failing_seconds", text, ("peer",), since.items())
    if found.last_received_at is not None:
        text = "When the last image came."
        yield _gauge("overread_last_received_timestamp_seconds", text, found.last_received_at)
    yield _gauge("overread_database_bytes", "Size of the database, without its log.", found.bytes)


def _sizes(heaps: Iterable[Heap]) -> list[tuple[tuple[str, ...], float]]:
    return [((h.state,), h.n) for h in heaps]


def _counted(store: Store) -> Iterator[Metric]:
    """What happened so far."""
    counts = tally.counts(store)
    for name, (metric, text, keys) in COUNTERS.items():
        counter = CounterMetricFamily(metric, text, labels=keys)
        for one in (c for c in counts if c.name == name):
            counter.add_metric([one.labels[key] for key in keys], one.n)
        yield counter
    for name, (metric, text, keys, ends) in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(metric, text, labels=keys)
        for group in tally.histograms([c for c in counts if c.name == name], ends):
            buckets = [("+Inf" if end == math.inf else f"{end:g}", n) for end, n in group.buckets]
            histogram.add_metric([group.labels[key] for key in keys], buckets, group.total)
        yield histogram
    yield _gauge("overread_uncounted_events", "Events that are not in the counters yet.", tally.behind(store))
    trail, text = auditing.behind(store), "Messages of the audit trail that were dropped, as too many waited."
    yield CounterMetricFamily("overread_dropped_audit_messages", text, value=trail.dropped)
    yield _gauge("overread_waiting_audit_messages", "Messages of the audit trail not yet written.", trail.waiting)


def _people(settings: Settings, store: Store, now: float) -> Iterator[Metric]:
    """What people have to see to: roles, alarms, the canary, certificates."""
    running = roles.expected(settings.node.data_dir, settings.infer.device, shared=settings.is_shared)
    up = [((name,), float(said["running"] and said["state"] == "ready")) for name, said in running.items()]
    yield _labelled("overread_role_up", "Whether a role runs and is ready.", ("role",), up)
    known = [((host.id, host.name, host.version), host.seen_ago) for host in hosts.known(store)]
    text = "Seconds since a host that shares the database was last seen."
    yield _labelled("overread_host_seen_seconds", text, ("host", "name", "version"), known)
    raised = [((a.key, a.severity), 1) for a in alarms.standing(store) if a.raised_at is not None]
    yield _labelled(
        "overread_alarm", "Alarms that stand, as `overread alarms` shows them.", ("key", "severity"), raised
    )
    quarantined = quarantine.waiting(store)
    yield _gauge("overread_quarantined_results", "Results that failed their self-check and were not sent.", quarantined)
    ran = canaries.latest(store)
    ended = [((c.route,), c.ended_at) for c in ran if c.ended_at is not None]
    yield _labelled("overread_canary_ok", "Whether the last canary came through.", ("route",), _canary_ok(ran))
    yield _labelled("overread_canary_timestamp_seconds", "When the last canary ended.", ("route",), ended)
    took = [((c.route, step), seconds) for c in ran for step, seconds in c.seconds.items()]
    yield _labelled("overread_canary_seconds", "Seconds of the last canary's steps.", ("route", "step"), took)
    left = list(_certificates(settings))
    text = "Seconds until a certificate ends; below zero it has."
    yield _labelled("overread_certificate_left_seconds", text, ("certificate",), left)


def _answers(settings: Settings, store: Store) -> Iterator[Metric]:
    """What each peer of the settings said to the last C-ECHO, or what its url was asked in place of that."""
    asked = echoes.latest(store)
    known = [(peer.name, asked[peer.name]) for peer in settings.peer if peer.name in asked]
    up = [((name,), float(echo.answered)) for name, echo in known]
    yield _labelled("overread_peer_up", "Whether a peer answered when it was last asked.", ("peer",), up)
    at = [((name,), echo.at) for name, echo in known]
    yield _labelled("overread_peer_asked_timestamp_seconds", "When a peer was last asked.", ("peer",), at)
    took = [((name,), echo.seconds) for name, echo in known if echo.seconds is not None]
    yield _labelled("overread_peer_answer_seconds", "How long its answer took.", ("peer",), took)


def _canary_ok(ran: Iterable[canaries.Ran]) -> list[tuple[tuple[str, ...], float]]:
    return [((c.route,), float(bool(c.ok))) for c in ran]


def _certificates(settings: Settings) -> Iterator[tuple[tuple[str, ...], float]]:
    """Of each file of [tls] the certificate that ends first; one that cannot be read has ended."""
    if settings.tls:
        for name in ("certificate", "authorities"):
            try:
                yield (name,), DAY * min(tls.days_left(getattr(settings.tls, name)))
            except SettingsError:
                yield (name,), 0.0


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, keys: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=keys)
    for labels, value in values:
        family.add_metric(list(labels), value)
    return family
