"""SIGKILL between any two durable steps: afterwards the PACS holds exactly one report and one picture."""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from receiving import uid_of
from running import RunningNode

from node.network.orthanc import Orthanc

pytestmark = [pytest.mark.fault, pytest.mark.orthanc, pytest.mark.slow]

SPOOL = [
    f"spool.{folder}.{step}"
    for folder in ("assoc", "obj", "results", "notes")
    for step in ("before_fsync", "before_rename", "after_rename", "after_folder")
]
STEPS = [
    "receive.start",
    "receive.after_row",
    "receive.end",
    "settle.end",
    "route.start",
    "route.end",
    "infer.claimed",
    "infer.read",
    "report.written",
    "report.end",
    "deliver.claimed",
    "deliver.sent",
    "deliver.recorded",
]


def send_until_acknowledged(node: RunningNode, send: Callable[..., bool], path: Path) -> None:
    """As a modality does: what was not acknowledged is sent again."""
    node.wait_for(lambda: send(node, path), seconds=30)


def kinds(orthanc: Orthanc, uid: str) -> Counter[str]:
    return Counter(
        dcmread(io.BytesIO(data), stop_before_pixels=True).Modality for data in orthanc.instances(uid).values()
    )


@pytest.mark.parametrize("point", [*SPOOL, *STEPS])
def test_after_a_kill_there_is_exactly_one_report_and_one_picture(
    stubbed: RunningNode, orthanc: Orthanc, film: Callable[..., Path], storescu: Callable[..., bool], point: str
) -> None:
    chest = film()
    uid = uid_of(chest)
    stubbed.arm(point)
    send_until_acknowledged(stubbed, storescu, chest)
    stubbed.wait_for(stubbed.went_off, seconds=30)
    stubbed.finish(uid, seconds=60)
    assert kinds(orthanc, uid) == {"SR": 1, "OT": 1}
    assert stubbed.problems() == []


def test_after_random_kills_of_everything_nothing_acknowledged_is_missing(
    stubbed: RunningNode, orthanc: Orthanc, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    chance = random.Random(7)
    films = [film() for _ in range(6)]
    for n, path in enumerate(films):
        send_until_acknowledged(stubbed, storescu, path)
        time.sleep(chance.uniform(0, 0.6))
        if n % 3 == 2:
            stubbed.kill()
            stubbed.start(wait=False)
        else:
            stubbed.kill(chance.choice(["receive", "infer", "dispatch"]))
    for path in films:
        stubbed.finish(uid_of(path), seconds=90)
        assert kinds(orthanc, uid_of(path)) == {"SR": 1, "OT": 1}
    assert stubbed.problems() == []
