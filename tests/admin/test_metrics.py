"""What Prometheus reads: right, bounded, without a patient, the same from every process, and quick."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import place, where
from prometheus_client.parser import text_string_to_metric_families
from rows import NOW, ORIGIN, built, received

from config.settings import Peer, Settings
from node.admin.metrics import Exporter, write
from node.domain import FindingRow, JobState, Matched, Priority
from node.storage import alarms, canaries, deliveries, echoes, instances, jobs, queue, routing, studies, tally
from node.storage.alarms import Alarm, Rules
from node.storage.echoes import Echo
from node.storage.store import Store

UIDS = re.compile(r"\d+(\.\d+){3,}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(node={"data_dir": tmp_path})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(place(tmp_path), tmp_path / "spool")
    made.open()
    made.spool.open()
    studies.begin_association(made, ORIGIN)
    yield made
    made.close()


def lived(store: Store) -> None:
    """One study that was read and sent, and one that is still arriving."""
    study = instances.remember(store, received(store, "1.2.840.1"), ORIGIN, own_device_uid="", now=NOW).study
    settled = studies.settle(store, study, "test", image_digest="x", now=NOW + 3)
    assert settled is not None
    members = tuple(i.id for i in instances.of_study(store, study.id))
    wanted = routing.Wanted(Matched("chest", members, "all"), "chest@1.0.0", {"pacs": [], "archive": []})
    routing.route(store, settled, [wanted], now=NOW + 4)
    (work,) = queue.claim(store, "w", 1, now=NOW + 4, lease=60)
    row = FindingRow(work.instances[0].id, "analysed", "", "Effusion", 0.83, "PRESENT")
    ended = [built(store, "1.2.840.7")]
    assert jobs.finish(store, work.job, JobState.DONE, [row], ended, reason="", now=NOW + 6)
    for delivery in deliveries.claim(store, "pacs", 10, now=NOW + 6, lease=60):
        deliveries.sent(store, delivery, status=0, note="", now=NOW + 8)
    for delivery in deliveries.claim(store, "archive", 10, now=NOW + 6, lease=60):
        deliveries.retry_later(store, delivery, status=None, reason="off", refusals=0, due_at=NOW + 99, now=NOW + 10)
    instances.remember(store, received(store, "1.2.840.2"), ORIGIN, own_device_uid="", now=NOW + 20)
    tally.advance(store)


def read(store: Store, settings: Settings, now: float = NOW + 30) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by name and labels' values, in the order of labels' names."""
    text, content_type = Exporter(settings, store, store.spool, clock=lambda: now).rendered()
    assert content_type.startswith("text/plain")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation, family.name
        assert family.name.startswith("overread_")
        for sample in family.samples:
            labels = tuple(sample.labels[key] for key in sorted(sample.labels))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_what_waits_is_counted_with_its_age(store: Store, settings: Settings) -> None:
    lived(store)
    said = read(store, settings)
    assert said["overread_studies"] == {("RECEIVING",): 1, ("ROUTED",): 1}
    assert said["overread_study_oldest_seconds"] == {("RECEIVING",): 10}
    assert said["overread_jobs"] == {("DONE",): 1}
    assert said["overread_deliveries"] == {("pacs", "SENT"): 1, ("archive", "QUEUED"): 1}
    assert said["overread_delivery_oldest_seconds"][("archive", "QUEUED")] == 24
    assert said["overread_delivery_failing_seconds"] == {("archive",): 20}
    assert said["overread_last_received_timestamp_seconds"] == {(): NOW + 20}


def test_the_queue_s_age_is_that_of_the_job_that_is_due_longest_and_0_without_one(
    store: Store, settings: Settings
) -> None:
    idle = dict.fromkeys([("STAT",), ("HIGH",), ("ROUTINE",), ("LOW",), ("BULK",)], 0)
    lived(store)
    assert read(store, settings)["overread_queue_age_seconds"] == idle
    study = instances.remember(store, received(store, "1.2.840.3"), ORIGIN, own_device_uid="", now=NOW).study
    settled = studies.settle(store, study, "test", image_digest="3", now=NOW + 1)
    assert settled is not None
    members = tuple(i.id for i in instances.of_study(store, study.id))
    matched = Matched("chest", members, "all match")
    routing.route(store, settled, [routing.Wanted(matched, "chest@1.0.0", {}, priority=Priority.HIGH)], now=NOW + 2)
    assert read(store, settings, NOW + 30)["overread_queue_age_seconds"] == idle | {("HIGH",): 28}
    queue.claim(store, "infer@here", 1, now=NOW + 31, lease=60)
    assert read(store, settings, NOW + 50)["overread_queue_age_seconds"] == idle


def test_what_happened_is_counted_as_counters_are(store: Store, settings: Settings) -> None:
    lived(store)
    said = read(store, settings)
    assert said["overread_ended_jobs_total"] == {("chest@1.0.0", "DONE"): 1}
    assert said["overread_findings_total"] == {("chest@1.0.0", "Effusion", "PRESENT"): 1}
    assert said["overread_sent_results_total"] == {("pacs",): 1}
    assert said["overread_step_seconds_sum"][("ROUTINE", "infer")] == 2
    assert said["overread_step_seconds_count"] == {("ROUTINE", s): 1 for s in ("settle", "infer", "deliver")}
    scores = said["overread_score_bucket"]
    assert (scores[("chest@1.0.0", "Effusion", "0.8")], scores[("chest@1.0.0", "Effusion", "0.9")]) == (0, 1)


def test_another_process_says_the_same(store: Store, settings: Settings) -> None:
    lived(store)
    again = Store(where(store), store.spool_root)
    again.open()
    passing = {"overread_metrics_read_seconds", "overread_disk_free_bytes"}
    one, other = read(store, settings), read(again, settings)
    assert {k: v for k, v in one.items() if k not in passing} == {k: v for k, v in other.items() if k not in passing}
    again.close()


def test_alarms_roles_canaries_and_disk_are_there(store: Store, settings: Settings) -> None:
    held = Alarm("study.HELD", "warning", "1 study is held")
    alarms.see(store, [held], Rules(0, 60, (), "OVERREAD"), now=NOW)
    canaries.begin(store, ["chest"], "1.2.9", now=NOW)
    canaries.end(store, "1.2.9", "chest", ok=False, reason="x", seconds={"infer": 1.5}, now=NOW + 2)
    said = read(store, settings)
    assert said["overread_alarm"] == {("study.HELD", "warning"): 1}
    assert said["overread_role_up"] == {("dispatch",): 0, ("infer",): 0, ("receive",): 0}
    assert said["overread_canary_ok"] == {("chest",): 0}
    assert said["overread_canary_seconds"] == {("chest", "infer"): 1.5}
    assert said["overread_disk_reserve_bytes"] == {(): 1024**3}
    assert 0 < said["overread_disk_free_bytes"][()] <= said["overread_disk_size_bytes"][()]
    assert said["overread_database_bytes"][()] > 0


def test_what_peers_answered_is_there(store: Store, settings: Settings) -> None:
    peers = [Peer(name=name, ae_title="X", host="127.0.0.1", port=104) for name in ("pacs", "archive")]
    for echo in (
        Echo("pacs", NOW, True, 0.004),
        Echo("archive", NOW - 5, False, error="x"),
        Echo("gone", NOW, True, 1),
    ):
        echoes.remember(store, echo)
    said = read(store, settings.model_copy(update={"peer": peers}))
    assert said["overread_peer_up"] == {("pacs",): 1, ("archive",): 0}
    assert said["overread_peer_asked_timestamp_seconds"] == {("pacs",): NOW, ("archive",): NOW - 5}
    assert said["overread_peer_answer_seconds"] == {("pacs",): 0.004}


def test_no_uid_and_no_patient_is_in_them(store: Store, settings: Settings) -> None:
    lived(store)
    text, _ = Exporter(settings, store, store.spool, clock=lambda: NOW + 30).rendered()
    labels = re.findall(r'"([^"]*)"', text.decode())
    assert not [value for value in labels if UIDS.fullmatch(value)]
    assert "P1" not in labels and "ACC1" not in text.decode()


def test_what_was_read_is_said_again_for_a_while_and_its_age_too(store: Store, settings: Settings) -> None:
    now = [NOW]
    exporter = Exporter(settings, store, store.spool, clock=lambda: now[0])

    def said() -> tuple[Any, Any]:
        text = exporter.rendered()[0].decode()
        values = {f.name: f.samples[0].value for f in text_string_to_metric_families(text) if f.samples}
        return values["overread_metrics_age_seconds"], "overread_last_received_timestamp_seconds" in values

    assert said() == (0, False)
    lived(store)
    now[0] += 14
    assert said() == (14, False)
    now[0] += 2
    assert said() == (0, True)


def test_openmetrics_is_answered_to_whoever_asks_for_it(store: Store, settings: Settings) -> None:
    text, content_type = Exporter(settings, store, store.spool).rendered("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "overread.prom"
    out.write_text("old")
    write(b"new", out)
    assert out.read_text() == "new"
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [out]
