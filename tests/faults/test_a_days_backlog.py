"""A day's work piles up while the PACS is down: nothing is refused, somebody can see it, and then everything goes."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from house import make_image
from pydicom import dcmread
from pydicom.uid import generate_uid
from receiving import sender_to
from running import RunningNode

from node.admin.overview import overview
from node.domain import DeliveryState
from node.network.orthanc import free_port
from node.network.standin import StandIn
from node.pipeline.deliver import BATCH
from node.storage import deliveries, studies

pytestmark = [pytest.mark.fault, pytest.mark.slow]

STUDIES = 200
GROWTH_MB = 40


def megabytes(pid: int) -> float:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


def alarms(node: RunningNode) -> list[str]:
    """What a person sees, without since when."""
    seen = overview(node.settings, node.parts.store, node.parts.spool, now=time.time())
    assert seen["well"] == (not seen["alarms"])
    return [alarm.partition(" for ")[0] for alarm in seen["alarms"]]


def test_a_day_s_backlog_is_seen_and_goes_when_the_pacs_is_back(tmp_path: Path) -> None:
    pacs = StandIn(tmp_path / "pacs", ae_title="PACS", port=free_port())
    patient = {"OVERREAD_DELIVER__RETRY_BASE_SECONDS": "20", "OVERREAD_DELIVER__RETRY_CAP_SECONDS": "60"}
    node = RunningNode(tmp_path / "node", ("PACS", pacs.port), stub=True, **patient)
    node.start()
    try:
        before = megabytes(node.pid("dispatch"))
        sender = sender_to(node)
        for n in range(STUDIES):
            uid = generate_uid()
            path = make_image(tmp_path / "image.dcm", StudyInstanceUID=uid, PatientID=f"P{n}", PatientAge="040Y")
            assert [o.status for _, o in sender.send([path])] == [0x0000]
            sender.close()
        store = node.parts.store
        node.wait_for(lambda: alarms(node) == [f"pacs has not taken {2 * STUDIES} results"], seconds=180, every=1)
        pacs.start()
        node.wait_for(lambda: studies.counts(store).get("delivery.SENT") == 2 * STUDIES, seconds=180, every=1)
        assert node.is_ready() and "role.died" not in node.log
        assert megabytes(node.pid("dispatch")) - before < GROWTH_MB
        kinds = Counter(dcmread(p, stop_before_pixels=True).Modality for p in pacs.received())
        assert kinds == {"SR": STUDIES, "OT": STUDIES}
        order = [d for s in studies.latest(store, STUDIES) for d in deliveries.of_study(store, s.id)]
        order.sort(key=lambda d: (d.sent_at, d.id))
        assert {d.state for d in order} == {DeliveryState.SENT}
        # whatever was due when the PACS came back; the first success wakes all others, the oldest first
        rest = [d.id for d in order[2 * BATCH :]]
        assert rest == sorted(rest)
        assert alarms(node) == []
        assert node.problems() == []
    finally:
        node.stop()
        pacs.stop()
