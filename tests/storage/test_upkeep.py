from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rows import NOW, built
from sqlalchemy import update

from config.settings import Retention
from node.domain import Gone, InstanceState, JobState, Study
from node.storage import deliveries, instances, invariants, jobs, proofs, pulled, pulls, queue, schema, upkeep
from node.storage.spool import Spool
from node.storage.store import Store

Make = Callable[..., Study]
DAY = 86400.0
RULES = Retention()


@pytest.fixture
def spool(store: Store) -> Spool:
    made = Spool(store.spool_root)
    made.open()
    return made


def files(store: Store, study: Study) -> list[Path]:
    made = []
    for instance in instances.of_study(store, study.id):
        instance.path.parent.mkdir(parents=True, exist_ok=True)
        instance.path.write_bytes(b"x")
        made.append(instance.path)
    return made


def report(store: Store, *, send: bool = True) -> None:
    (work,) = queue.claim(store, "w", 8, now=NOW, lease=60)
    jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW)
    if send:
        (delivery,) = deliveries.claim(store, "pacs", 8, now=NOW, lease=60)
        deliveries.sent(store, delivery, status=0, note="", now=NOW)


def kinds(store: Store, now: float) -> list[str]:
    return [p.kind for p in upkeep.purgeable(store, RULES, now)]


def test_inputs_go_after_their_time_and_results_later(store: Store, routed: Make) -> None:
    routed("1.1")
    report(store)
    assert kinds(store, NOW + 29 * DAY) == []
    assert kinds(store, NOW + 31 * DAY) == ["input"]
    assert kinds(store, NOW + 366 * DAY) == ["input", "result"]


def test_nothing_goes_that_was_not_delivered(store: Store, routed: Make) -> None:
    routed("1.1")
    report(store, send=False)
    assert kinds(store, NOW + 1000 * DAY) == []


def test_nothing_goes_that_was_not_analysed(store: Store, routed: Make) -> None:
    routed("1.1")
    assert kinds(store, NOW + 1000 * DAY) == []


def test_what_was_given_up_is_kept_until_somebody_had_time_to_look(store: Store, routed: Make) -> None:
    routed("1.1")
    report(store, send=False)
    (delivery,) = deliveries.claim(store, "pacs", 8, now=NOW, lease=60)
    deliveries.give_up(store, delivery, status=None, reason="no", now=NOW)
    assert kinds(store, NOW + 89 * DAY) == []
    assert kinds(store, NOW + 91 * DAY) == ["input"]


def test_a_purge_deletes_files_and_keeps_rows(store: Store, routed: Make) -> None:
    study = routed("1.1")
    (path,) = files(store, study)
    report(store)
    assert len(upkeep.purgeable(store, RULES, NOW + 31 * DAY)) == 1
    assert path.exists()
    assert len(upkeep.purge(store, RULES, NOW + 31 * DAY)) == 1
    assert not path.exists()
    (instance,) = instances.of_study(store, study.id)
    assert (instance.state, instance.gone) == (InstanceState.CURRENT, Gone.PURGED)
    assert upkeep.purgeable(store, RULES, NOW + 31 * DAY) == []


def test_nobody_waits_while_there_is_nothing_to_purge(
    store: Store, routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(store, routed("1.1"))
    report(store)
    monkeypatch.setattr(store, "write", lambda: pytest.fail("it keeps everybody else from writing"))
    assert upkeep.purge(store, RULES, NOW + DAY) == []


def test_what_came_back_into_use_since_it_was_found_is_not_purged(
    store: Store, routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = routed("1.1")
    (path,) = files(store, study)
    report(store)
    writes, late = store.write, NOW + 31 * DAY

    def write() -> Any:  # another host takes an image of the study at this moment
        monkeypatch.setattr(store, "write", writes)
        with writes() as connection:
            connection.execute(update(schema.study).values(state="RECEIVING", last_received_at=late))
        return writes()

    monkeypatch.setattr(store, "write", write)
    assert upkeep.purge(store, RULES, late) == []
    assert path.exists()


def test_a_missing_file_violates_an_invariant(store: Store, spool: Spool, routed: Make) -> None:
    routed("1.1")
    assert any(p.startswith("I2") for p in invariants.verify(store, spool, NOW))


def test_a_file_that_is_purged_while_it_is_looked_at_is_not_missing(
    store: Store, spool: Spool, routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(store, routed("1.1"))

    def purged_meanwhile(_path: Path) -> str:
        with store.write() as connection:
            connection.exec_driver_sql("UPDATE instance SET gone = 'purged'")
        path.unlink(missing_ok=True)
        raise FileNotFoundError

    monkeypatch.setattr(invariants, "digest_of", purged_meanwhile)
    assert invariants.verify(store, spool, NOW) == []


def test_a_file_that_cannot_be_read_is_a_line_and_no_end(
    store: Store, spool: Spool, routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    files(store, routed("1.1"))
    monkeypatch.setattr(invariants, "digest_of", broken)
    (said,) = invariants.verify(store, spool, NOW)
    assert said.startswith("I1: instance 1 of study 1 cannot be read") and said.endswith("Input/output error")


def test_a_spool_that_cannot_be_listed_is_a_line(store: Store, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_folder: Path) -> Iterator[Path]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool.shelf, "files", broken)
    assert invariants.verify(store, spool, NOW) == ["I3: the spool cannot be listed: Input/output error"]


def test_all_rows_are_verified_in_blocks_between_which_others_may_write(
    store: Store, spool: Spool, routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "BLOCK", 2)
    made = [routed(f"1.{n}") for n in range(5)]
    for study in made:
        files(store, study)
    seen: list[Path] = []
    readers: list[int] = []

    def counted(path: Path) -> str:
        readers.append(store.engine.pool.checkedout())  # type: ignore[attr-defined]
        seen.append(path)
        return f"{1:064x}"

    monkeypatch.setattr(invariants, "digest_of", counted)
    assert invariants.verify(store, spool, NOW) == []
    assert len(set(seen)) == len(seen) == 5
    assert set(readers) == {0}, "a transaction was open while a file was read"


def test_an_altered_file_violates_an_invariant(store: Store, spool: Spool, routed: Make) -> None:
    files(store, routed("1.1"))
    assert any(p.startswith("I1") for p in invariants.verify(store, spool, NOW))
    assert invariants.verify(store, spool, NOW, deep=False) == []


def test_a_file_without_a_row_violates_an_invariant(store: Store, spool: Spool) -> None:
    path = spool.object_path("1.2", "f" * 64, "a" * 12)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert invariants.verify(store, spool, path.stat().st_mtime + 10) == []
    assert any(p.startswith("I3") for p in invariants.verify(store, spool, path.stat().st_mtime + 100))


def test_a_result_without_its_delivery_violates_an_invariant(store: Store, spool: Spool, routed: Make) -> None:
    routed("1.1")
    report(store, send=False)
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM delivery")
    assert any(p.startswith("I6") for p in invariants.verify(store, spool, NOW, deep=False))


def test_only_destinations_that_want_the_kind_are_counted(store: Store, spool: Spool, routed: Make) -> None:
    routed("1.1", deliver_to={"pacs": ["sr"], "viewer": ["sc"]})
    report(store, send=False)
    assert not any(p.startswith("I6") for p in invariants.verify(store, spool, NOW, deep=False))
    with store.write() as connection:
        connection.exec_driver_sql('UPDATE job SET deliver_to = \'{"pacs": [], "viewer": []}\'')
    assert any(p.startswith("I6") for p in invariants.verify(store, spool, NOW, deep=False))


def test_what_is_wrong_with_a_result_keeps_it_from_every_destination(store: Store, spool: Spool, routed: Make) -> None:
    routed("1.1")
    report(store, send=False)
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM delivery")
        connection.exec_driver_sql("UPDATE result SET quarantine = 'no good'")
    assert not any(p.startswith("I6") for p in invariants.verify(store, spool, NOW, deep=False))


def test_a_purged_result_that_waits_to_be_sent_violates_an_invariant(store: Store, spool: Spool, routed: Make) -> None:
    routed("1.1")
    report(store, send=False)
    with store.write() as connection:
        connection.execute(update(schema.result).values(purged=True))
    assert any(p.startswith("I7") for p in invariants.verify(store, spool, NOW, deep=False))


def test_a_routed_study_without_a_job_violates_an_invariant(store: Store, spool: Spool, routed: Make) -> None:
    routed("1.1")
    with store.write() as connection:
        connection.exec_driver_sql("DELETE FROM job_instance")
        connection.exec_driver_sql("DELETE FROM job")
    assert any(p.startswith("I5") for p in invariants.verify(store, spool, NOW, deep=False))


def test_a_result_that_is_being_proven_is_kept(store: Store, routed: Make) -> None:
    """Its peer may say that it lost it."""
    routed("1.1")
    report(store)
    soon = Retention(results_days=1)
    assert [p.kind for p in upkeep.purgeable(store, soon, NOW + 3 * DAY)] == []
    (sent,) = proofs.due(store, "pacs", 9, now=NOW)
    proofs.commit(store, [sent], "storage commitment", now=NOW)
    assert [p.kind for p in upkeep.purgeable(store, soon, NOW + 3 * DAY)] == ["result"]


def of_pull(store: Store, study: Study, *, keep_hours: float | None) -> pulls.Pull:
    """A pull that had brought the study."""
    pull = pulls.begin(store, "pacs", {"any": []}, {"keep_hours": keep_hours}, route="", mode="shadow", now=NOW)
    with store.write() as connection:
        pulled.begin(connection, study.id, pull.pulled)
    return pull


def test_a_pull_may_keep_images_for_hours_only(store: Store, routed: Make) -> None:
    study = routed("1.1")
    of_pull(store, study, keep_hours=2)
    (path,) = files(store, study)
    later = NOW + 2 * upkeep.HOUR + 1
    assert upkeep.purge_pulled(store, RULES, later) == [], "it was not read"
    report(store, send=False)
    assert upkeep.purge_pulled(store, RULES, later) == [], "its results were not sent"
    (delivery,) = deliveries.claim(store, "pacs", 8, now=NOW, lease=60)
    deliveries.sent(store, delivery, status=0, note="", now=NOW)
    assert upkeep.purge_pulled(store, RULES, NOW + 2 * upkeep.HOUR - 1) == []
    (gone,) = upkeep.purge_pulled(store, RULES, later)
    assert (gone.path, gone.reason) == (path, "read, and its pull keeps images no longer")
    assert not path.exists()
    assert [i.gone for i in instances.of_study(store, study.id)] == [Gone.PURGED]
    assert pulls.here(store, "1.1").instances == 1, "so that nobody brings it again"


def test_what_another_pull_or_somebody_else_wants_is_kept_as_the_settings_say(store: Store, routed: Make) -> None:
    one = routed("1.1")
    report(store)
    first = of_pull(store, one, keep_hours=0)
    of_pull(store, one, keep_hours=None)
    assert upkeep.purge_pulled(store, RULES, NOW + DAY) == []
    with store.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM pulled WHERE pull != {first.id}")
        connection.exec_driver_sql("UPDATE pulled SET sent_at = 1")
    assert upkeep.purge_pulled(store, RULES, NOW + DAY) == []
    assert [p.reason for p in upkeep.purge(store, RULES, NOW + 31 * DAY)] == ["finished, older than 30 days"]


def test_a_purge_goes_on_behind_a_block_and_ends(store: Store, routed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "BLOCK", 2)
    for n in range(5):
        routed(f"1.{n}")
    for n, work in enumerate(queue.claim(store, "w", 8, now=NOW, lease=60)):
        jobs.finish(store, work.job, JobState.DONE, [], [built(store, f"2.25.{n}")], reason="", now=NOW)
    for delivery in deliveries.claim(store, "pacs", 8, now=NOW, lease=60):
        deliveries.sent(store, delivery, status=0, note="", now=NOW)
    assert [p.kind for p in upkeep.purge(store, RULES, NOW + 366 * DAY)] == ["input"] * 5 + ["result"] * 5
