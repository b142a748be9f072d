"""How commands tell of proof: reconcile, status, show, retry."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from house import House, make_image
from rows import built
from sqlalchemy import delete

from node.admin.alarms import Watchman
from node.domain import JobState
from node.storage import deliveries, jobs, ledger, negotiated, proofs, queue, schema


@pytest.fixture
def sent(house: House, routed: Any, tmp_path: Path) -> House:
    """One report that its peer has answered with success; settled a moment ago."""
    house.now = time.time() - 200
    routed(make_image(tmp_path / "a.dcm"))
    (work,) = queue.claim(house.store, "w", 1, now=house.now, lease=60)
    jobs.finish(house.store, work.job, JobState.DONE, [], [built(house.store, "2.25.1")], reason="", now=house.now)
    (delivery,) = deliveries.claim(house.store, "pacs", 9, now=house.now, lease=60)
    deliveries.sent(house.store, delivery, status=0, note="", now=house.now)
    return house


def due(house: House) -> list[proofs.Sent]:
    return proofs.due(house.store, "pacs", 9, now=house.now)


def test_reconcile_accounts_for_today(sent: House, overread: Any) -> None:
    done = overread("reconcile")
    assert done.exit_code == 0
    assert "UNPROVEN: sr to pacs: not yet" in done.stdout
    assert "1 settled, 0 unexplained" in done.stdout
    proofs.commit(sent.store, due(sent), "storage commitment", now=sent.now)
    said = json.loads(overread("reconcile", "--json").stdout)
    assert (said["study_id"], said["account"], said["reasons"]) == (1, "COMMITTED", [])
    assert "COMMITTED" in overread("reconcile").stdout


def test_reconcile_fails_when_something_is_unexplained(sent: House, overread: Any) -> None:
    with sent.store.write() as connection:
        connection.execute(delete(schema.delivery))
    done = overread("reconcile")
    assert (done.exit_code, "its results go nowhere" in done.stdout) == (1, True)
    assert overread("reconcile", "--json").exit_code == 1


def test_status_takes_the_watchmans_word_for_what_is_unexplained(
    sent: House, overread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sent.store.write() as connection:
        connection.execute(delete(schema.delivery))
    Watchman(sent.store, sent.spool, settings=sent.settings).look(time.time())
    # looking at each study of a day takes too long for who asks every few seconds
    monkeypatch.setattr(ledger, "settled", lambda *_, **__: pytest.fail("status looked at each study"))
    said = json.loads(overread("status", "--json").stdout)
    assert "1 settled study is unexplained: `overread reconcile`" in said["alarms"]


def test_reconcile_takes_a_day(sent: House, overread: Any) -> None:
    day = datetime.fromtimestamp(sent.now).astimezone()
    assert "1 settled" in overread("reconcile", "--day", f"{day:%Y-%m-%d}").stdout
    assert "0 settled" in overread("reconcile", "--day", "2001-01-01").stdout
    assert "1 settled" in overread("reconcile", "--since", "2001-01-01").stdout
    assert overread("reconcile", "--day", "yesterday").exit_code == 2
    assert overread("reconcile", "--day", "2001-01-01", "--since", "2001-01-01").exit_code == 2


def test_status_counts_what_is_proven_and_what_nobody_proves(sent: House, overread: Any) -> None:
    def counted() -> Any:
        return json.loads(overread("status", "--json").stdout)["counts"]["delivery"]

    assert counted() == {"SENT": 1}
    proofs.refuse(sent.store, due(sent), "offers neither", now=sent.now)
    assert counted() == {"unproven": 1}
    proofs.ask_anew(sent.store, ["pacs"], now=sent.now)
    proofs.commit(sent.store, due(sent), "storage commitment", now=sent.now)
    assert counted() == {"COMMITTED": 1}


def test_a_pacs_that_does_not_report_is_an_alarm(sent: House, overread: Any) -> None:
    proofs.end(sent.store, due(sent), "has not reported on it", now=sent.now)
    alarms = json.loads(overread("status", "--json").stdout)["alarms"]
    (alarm,) = [line for line in alarms if "role" not in line]
    assert re.fullmatch(r"pacs has not proven 1 result for \d minutes?: has not reported on it", alarm)


def test_show_says_how_it_was_proven(sent: House, overread: Any) -> None:
    assert "sr to pacs: SENT (unproven: not yet)" in overread("show", "1").stdout
    proofs.refuse(sent.store, due(sent), "offers neither", now=sent.now)
    assert "sr to pacs: SENT (unproven: offers neither)" in overread("show", "1").stdout
    proofs.ask_anew(sent.store, ["pacs"], now=sent.now)
    proofs.commit(sent.store, due(sent), "read back by C-FIND", now=sent.now)
    assert "sr to pacs: COMMITTED (read back by C-FIND, 20" in overread("show", "1").stdout


def test_retry_asks_again_for_proof(sent: House, overread: Any) -> None:
    proofs.end(sent.store, due(sent), "has not reported on it", now=sent.now)
    negotiated.remember(sent.store, "pacs", {("1.2", "1.3"): False}, now=sent.now)
    done = overread("retry", "1")
    assert "and 1 result that was sent will be asked about" in done.stdout
    assert negotiated.known(sent.store, "pacs") == {}
    assert proofs.first_due(sent.store, "pacs") is not None
    assert json.loads(overread("retry", "--peer", "pacs", "--json").stdout)["proofs"] == 0
