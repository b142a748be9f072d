"""Storage commitment with a real Orthanc, both ways, and what becomes of results where nobody proves anything."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import make_image
from network.peers import listens
from pydicom import dcmread
from pydicom.uid import generate_uid
from running import RunningNode

from node.admin.overview import overview
from node.admin.reconcile import Account, reconcile, totals
from node.domain import Delivery, DeliveryState
from node.errors import PeerError
from node.network.orthanc import Orthanc, free_port
from node.network.sender import Sender
from node.storage import deliveries

pytestmark = [pytest.mark.slow]
Nodes = Callable[..., RunningNode]
WITH_ORTHANC = pytest.mark.orthanc
CR = "1.2.840.10008.5.1.4.1.1.1"


@pytest.fixture
def orthancs(program: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    started: list[Orthanc] = []

    def make(node_port: int, **options: Any) -> Orthanc:
        program("Orthanc")
        folder = tmp_path / f"orthanc{len(started)}"
        folder.mkdir()
        started.append(Orthanc(folder, node_ae_title="OVERREAD", node_port=node_port, **options))
        started[-1].start()
        return started[-1]

    yield make
    for orthanc in started:
        orthanc.stop()


@pytest.fixture
def start(orthancs: Callable[..., Orthanc], tmp_path: Path) -> Iterator[Nodes]:
    """Start a node with a stub in place of the models, for a PACS at a port. It stops first: Orthanc waits for its
    associations to end."""
    started: list[RunningNode] = []

    def make(ae_title: str, pacs_port: int, **options: Any) -> RunningNode:
        options = {"stub": True, "proof": "auto"} | options
        node = RunningNode(tmp_path / f"node{len(started)}", (ae_title, pacs_port), **options)
        started.append(node)
        node.start()
        return node

    yield make
    for node in started:
        node.stop()


@pytest.fixture
def send(tmp_path: Path) -> Callable[..., str]:
    """Send the node a small film as the modality; gives the Study Instance UID."""

    def to(node: RunningNode, path: Path | None = None) -> str:
        path = path or make_image(tmp_path / f"{generate_uid()}.dcm")
        one = Sender(
            calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=10
        )
        assert [outcome.kind for _, outcome in one.send([path])] == ["stored"]
        one.close()
        return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)

    return to


def sent(node: RunningNode, uid: str) -> list[Delivery]:
    study = node.study(uid)
    return deliveries.of_study(node.parts.store, study.id) if study else []


def accounts(node: RunningNode) -> dict[Account, int]:
    now = time.time()
    return totals(reconcile(node.parts.store, since=now - 3600, until=now + 60, now=now))


def id_of(orthanc: Orthanc, sop_instance_uid: str) -> str:
    found = orthanc.post("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}})
    return str(found[0]) if found else ""


@WITH_ORTHANC
@pytest.mark.parametrize("overwrite", [False, True])
def test_orthanc_commits_to_what_it_was_sent(
    start: Nodes, orthancs: Callable[..., Orthanc], send: Callable[..., str], overwrite: bool
) -> None:
    port = free_port()
    orthanc = orthancs(port, OverwriteInstances=overwrite)
    node = start(orthanc.ae_title, orthanc.port, port=port)
    uid = send(node)
    node.finish(uid)
    assert {(d.state, d.proof) for d in sent(node, uid)} == {(DeliveryState.COMMITTED, "storage commitment")}
    assert set(orthanc.instances(uid)) == {d.sop_instance_uid for d in sent(node, uid)}
    assert accounts(node) == {Account.COMMITTED: 1}
    assert overview(node.settings, node.parts.store, node.parts.spool, now=time.time())["well"]


@WITH_ORTHANC
def test_orthanc_is_read_back_from_where_that_is_asked(
    start: Nodes, orthancs: Callable[..., Orthanc], send: Callable[..., str]
) -> None:
    port = free_port()
    orthanc = orthancs(port)
    node = start(orthanc.ae_title, orthanc.port, port=port, proof="find")
    uid = send(node)
    node.finish(uid)
    assert {(d.state, d.proof) for d in sent(node, uid)} == {(DeliveryState.COMMITTED, "read back by C-FIND")}


@WITH_ORTHANC
@pytest.mark.parametrize(("proof", "seconds"), [("commitment", 3600), ("find", 12)])
def test_what_was_deleted_in_orthanc_is_noticed_and_sent_again(
    start: Nodes, orthancs: Callable[..., Orthanc], send: Callable[..., str], proof: str, seconds: float
) -> None:
    port = free_port()
    orthanc = orthancs(port)
    node = start(orthanc.ae_title, orthanc.port, port=port, proof=proof, proof_seconds=seconds)
    uid = send(node)

    def arrived() -> str:
        reports = [d for d in sent(node, uid) if d.kind == "sr" and d.state is DeliveryState.SENT]
        return id_of(orthanc, reports[0].sop_instance_uid) if reports else ""

    found = node.wait_for(arrived)
    orthanc.request(f"/instances/{found}", method="DELETE")
    node.finish(uid)
    (report,) = [d for d in sent(node, uid) if d.kind == "sr"]
    assert (report.state, report.resends) == (DeliveryState.COMMITTED, 1)
    assert id_of(orthanc, report.sop_instance_uid)


@WITH_ORTHANC
def test_studies_that_are_sent_twice_while_orthanc_restarts_are_committed_once(
    start: Nodes, orthancs: Callable[..., Orthanc], send: Callable[..., str], tmp_path: Path
) -> None:
    port = free_port()
    orthanc = orthancs(port)
    node = start(orthanc.ae_title, orthanc.port, port=port, proof_seconds=10)
    films = [make_image(tmp_path / f"{n}.dcm") for n in range(12)]
    order = films * 2
    random.Random(4).shuffle(order)
    for n, film in enumerate(order):
        send(node, film)
        if n in (6, 16):
            orthanc.stop()
        if n in (9, 19):
            orthanc.start()
    uids = [str(dcmread(film, stop_before_pixels=True).StudyInstanceUID) for film in films]
    for uid in uids:
        node.finish(uid, seconds=90)
        assert {d.state for d in sent(node, uid)} == {DeliveryState.COMMITTED}
        assert set(orthanc.instances(uid)) == {d.sop_instance_uid for d in sent(node, uid)}
    assert accounts(node) == {Account.COMMITTED: 12}
    assert node.problems() == []


@WITH_ORTHANC
def test_orthanc_is_told_what_the_node_keeps_and_what_not(
    start: Nodes, orthancs: Callable[..., Orthanc], send: Callable[..., str], tmp_path: Path
) -> None:
    port = free_port()
    orthanc = orthancs(port)
    node = start(orthanc.ae_title, orthanc.port, port=port, commit=True)
    films = [make_image(tmp_path / f"{n}.dcm") for n in range(3)]
    for film in films:
        orthanc.upload(film)
    uids = [dcmread(film, stop_before_pixels=True) for film in films]
    for ds in uids[:2]:
        orthanc.send_study(str(ds.StudyInstanceUID))
    asked = {"DicomInstances": [[CR, str(ds.SOPInstanceUID)] for ds in uids]}
    transaction = orthanc.post("/modalities/node/storage-commitment", asked)["ID"]

    def told() -> dict[str, Any] | None:
        said = orthanc.get(f"/storage-commitment/{transaction}")
        return said if said["Status"] != "Pending" else None

    said = node.wait_for(told)
    assert said["Status"] == "Failure"
    assert {i["SOPInstanceUID"] for i in said["Success"]} == {str(ds.SOPInstanceUID) for ds in uids[:2]}
    assert [(i["SOPInstanceUID"], i["FailureReason"]) for i in said["Failures"]] == [
        (str(uids[2].SOPInstanceUID), 0x0112)
    ]
    node.wait_for(lambda: "commitment.reported peer=pacs" in node.log)


@WITH_ORTHANC
def test_orthanc_is_refused_where_the_node_commits_to_nothing(
    start: Nodes, orthancs: Callable[..., Orthanc], send: Callable[..., str]
) -> None:
    port = free_port()
    orthanc = orthancs(port)
    start(orthanc.ae_title, orthanc.port, port=port)
    asked = {"DicomInstances": [[CR, "1.2.3"]]}
    with pytest.raises(PeerError):
        orthanc.post("/modalities/node/storage-commitment", asked)


@pytest.mark.dcmtk
def test_with_storescp_results_stay_unproven_and_nobody_asks_in_a_loop(
    start: Nodes, send: Callable[..., str], program: Callable[[str], str], tmp_path: Path
) -> None:
    port = free_port()
    folder = tmp_path / "storescp"
    folder.mkdir()
    # It knows no commitment and no query, and takes one association at a time
    command = [program("storescp"), "-v", "-od", str(folder), "--aetitle", "STORESCP", str(port)]
    log = tmp_path / "storescp.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 10
        while not listens(port):
            assert time.monotonic() < until
            time.sleep(0.05)
        node = start("STORESCP", port)
        for _ in range(2):
            uid = send(node)
            node.finish(uid)
        time.sleep(4)
        associations = log.read_text().count("Association Received")
        reasons = {(d.state, d.proof) for d in sent(node, uid)}
        assert reasons == {(DeliveryState.SENT, "offers neither storage commitment nor a query")}
        # one for the results of each study at most, and one to ask what it offers
        assert associations <= 3
        assert accounts(node) == {Account.UNPROVEN: 2}
        seen = overview(node.settings, node.parts.store, node.parts.spool, now=time.time())
        assert seen["counts"]["delivery"] == {"unproven": 4}
        assert seen["alarms"] == []
    finally:
        process.kill()
        process.wait()
