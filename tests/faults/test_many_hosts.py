"""One node on many hosts: what must hold while its machines, and the database under them, die."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet, fleet
from modality_made import Modality

from node.domain import JobState
from node.storage import invariants, jobs, studies

pytestmark = [pytest.mark.fault, pytest.mark.dcmtk]

STUDIES = int(os.environ.get("OVERREAD_TEST_STUDIES", "240"))
"""Of the large test; more where there is time."""
SEED = 7


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path / "fleet") as made:
        yield made


def test_studies_are_read_once_while_workers_and_the_database_are_killed(hosts: Fleet, tmp_path: Path) -> None:
    receivers = [hosts.host(f"receive{n}", "receive") for n in range(2)]
    workers = [hosts.host(f"infer{n}", "infer") for n in range(3)]
    for n in range(2):
        hosts.host(f"dispatch{n}", "dispatch")
    hosts.start()
    (tmp_path / "sent").mkdir()
    addresses = [(host.address, host.port) for host in receivers]
    senders = [
        Modality(addresses[n:] + addresses[:n], tmp_path / "sent", 0.0, SEED + n, most=STUDIES // 2) for n in range(2)
    ]
    for sender in senders:
        sender.start()
    chance, next_kill = random.Random(SEED), time.monotonic() + 5
    kills = {"worker": 0, "database": 0}
    while any(sender.is_alive() for sender in senders) or not (kills["database"] and kills["worker"] > 2):
        time.sleep(0.2)
        if time.monotonic() < next_kill:
            continue
        next_kill = time.monotonic() + 6
        if kills["worker"] % 4 == 2:
            hosts.server.kill()
            kills["database"] += 1
            hosts.server.start()
            kills["worker"] += 1
        else:
            chance.choice(workers).kill("infer")
            kills["worker"] += 1
    hosts.wait(hosts.is_done, seconds=600 + STUDIES)
    sent = {uid: n for sender in senders for uid, n in sender.studies.items()}
    store = hosts.parts.store
    found = {s.study_instance_uid: s for s in studies.latest(store, 1_000_000)}
    assert len(sent) == 2 * (STUDIES // 2) and found.keys() == sent.keys()
    read = {uid: sum(j.state is JobState.DONE for j in jobs.of_study(store, s.id)) for uid, s in found.items()}
    back = hosts.came_back()
    print(
        f"{len(sent)} studies, kills {kills}, {sum(read.values())} jobs ended, {sum(back.values())} objects in the PACS"
    )
    wrong = [uid for uid in sent if not back[uid, "SR"] == read[uid] >= 1]
    assert not wrong, [(back[uid, "SR"], read[uid]) for uid in wrong]
    assert invariants.verify(store, hosts.parts.spool, time.time()) == []
