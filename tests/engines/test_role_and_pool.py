"""A node whose networks run on a real Ray cluster: the head is killed while studies come, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from house import make_image
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from ray_made import Cluster
from running import RunningNode

from node.domain import JobState
from node.storage import jobs

pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.fault]

ROUTE = """
[[route]]
name = "chest"
when = { Modality = ["CR", "DX"] }
bundle = "chest-abnormal"
mode = "shadow"
"""


def send(node: RunningNode, image: Path) -> str:
    ds = dcmread(image)
    ae = AE("MODALITY")
    ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", node.port, ae_title=node.ae_title)
    assert association.is_established
    assert association.send_c_store(ds).Status == 0
    association.release()
    return str(ds.StudyInstanceUID)


def test_a_head_that_dies_costs_no_study_and_no_attempt(tmp_path: Path) -> None:
    cluster = Cluster()
    node = RunningNode(
        tmp_path / "node",
        ("PACS", 1),
        route=ROUTE,
        devices=("auto",),
        OVERREAD_INFER__ENGINE="ray",
        OVERREAD_RAY__ADDRESS=cluster.address,
        OVERREAD_RAY__TOKEN_FILE=str(cluster.token_file),
        OVERREAD_RAY__CPUS="0.5",
        OVERREAD_RAY__CONNECT_SECONDS="30",
        OVERREAD_RAY__ANSWER_SECONDS="20",
    )
    node.roles = ("receive", "infer", "dispatch")
    try:
        cluster.start()
        node.start(wait=False)
        node.wait_for(node.is_ready, seconds=240)
        node.wait_for(lambda: not node.said()["infer"].get("engine_away"), seconds=120)
        first = send(node, make_image(tmp_path / "1.dcm", StudyInstanceUID=generate_uid()))
        node.finish(first, seconds=60)
        cluster.kill()
        second = send(node, make_image(tmp_path / "2.dcm", StudyInstanceUID=generate_uid()))
        node.wait_for(lambda: node.said()["infer"].get("engine_away"), seconds=60)
        study = node.study(second)
        assert study is not None
        (job,) = jobs.of_study(node.parts.store, study.id)
        assert (job.state, job.attempts, job.crashes) == (JobState.QUEUED, 0, 0)
        cluster.start()
        node.finish(second, seconds=150)
        for uid in (first, second):
            study = node.study(uid)
            assert study is not None
            (job,) = jobs.of_study(node.parts.store, study.id)
            # by the gate, which ran on the cluster: a grey wedge is no radiograph
            assert (job.state, job.attempts, job.crashes) == (JobState.REFUSED, 1, 0)
        assert node.problems() == []
    finally:
        node.stop()
        cluster.end()
