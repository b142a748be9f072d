"""One node, three destinations: an old PACS, an Orthanc by STOW-RS, and a viewer that wants pictures only."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from profiled import EXPLICIT, StoreSCP
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage, EnhancedSRStorage, SecondaryCaptureImageStorage
from running import ROUTE, RunningNode

from node.domain import DeliveryState
from node.network.orthanc import Orthanc, free_port
from node.network.standin import StandIn
from node.storage import deliveries
from node.storage.spool import digest_of

pytestmark = [pytest.mark.orthanc, pytest.mark.dcmtk, pytest.mark.slow]

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MORE = """
[[peer]]
name = "web"
url = "http://127.0.0.1:{http}/dicom-web"

[[peer]]
name = "viewer"
ae_title = "STANDIN"
host = "127.0.0.1"
port = {viewer}
may = ["receive"]
results = ["sc"]
"""


@pytest.fixture(scope="module")
def old(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSCP]:
    made = StoreSCP(program("storescp"), tmp_path_factory.mktemp("old"))
    made.start((str(EnhancedSRStorage), EXPLICIT), (str(SecondaryCaptureImageStorage), EXPLICIT))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def orthanc(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program("Orthanc")
    if not PLUGIN.is_file():
        # For a person it is skipped; CI installs it
        without = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        without("Orthanc's DICOMweb plug-in is missing (Debian: orthanc-dicomweb)")
    made = Orthanc(
        tmp_path_factory.mktemp("orthanc"),
        node_ae_title="OVERREAD",
        node_port=free_port(),
        Plugins=[str(PLUGIN)],
        DicomWeb={"Enable": True, "Root": "/dicom-web/"},
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    made = StandIn(tmp_path_factory.mktemp("viewer"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(
    old: StoreSCP, orthanc: Orthanc, viewer: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNode]:
    route = MORE.format(http=orthanc.http, viewer=viewer.port) + ROUTE.replace('["pacs"]', '["pacs", "web", "viewer"]')
    made = RunningNode(tmp_path_factory.mktemp("node"), ("OLD", old.port), route=route, stub=True)
    made.start()
    yield made
    made.stop()


def test_each_destination_gets_what_it_can_take(
    node: RunningNode,
    old: StoreSCP,
    orthanc: Orthanc,
    viewer: StandIn,
    film: Callable[..., Path],
    storescu: Callable[..., bool],
) -> None:
    chest = film()
    uid = str(dcmread(chest, stop_before_pixels=True).StudyInstanceUID)
    assert storescu(node, chest)
    study = node.finish(uid)
    sent = {(d.peer, d.kind): d for d in deliveries.of_study(node.parts.store, study.id)}
    assert set(sent) == {("pacs", "sr"), ("pacs", "sc"), ("web", "sr"), ("web", "sc"), ("viewer", "sc")}
    assert {d.state for d in sent.values()} <= {DeliveryState.SENT, DeliveryState.COMMITTED}

    def proofs() -> set[str]:
        return {d.proof for d in deliveries.of_study(node.parts.store, study.id) if d.peer == "web"}

    node.wait_for(lambda: proofs() == {"read back by QIDO-RS"})
    assert {dcmread(p).SOPClassUID for p in old.kept()} == {EnhancedSRStorage, SecondaryCaptureImageStorage}
    assert [dcmread(p).SOPClassUID for p in viewer.received()] == [SecondaryCaptureImageStorage]
    there = orthanc.instances(uid)
    assert set(there) == {sent["web", kind].sop_instance_uid for kind in ("sr", "sc")}
    report = dcmread(io.BytesIO(there[sent["web", "sr"].sop_instance_uid]))
    assert report.SOPClassUID == Comprehensive3DSRStorage
    kept = node.folder / "report.dcm"
    kept.write_bytes(there[sent["web", "sr"].sop_instance_uid])
    assert digest_of(kept) == digest_of(sent["web", "sr"].path)
    assert node.problems() == []


def test_the_administrator_sees_what_each_takes_and_that_it_is_there(node: RunningNode, orthanc: Orthanc) -> None:
    def overread(*arguments: str) -> str:
        command = [sys.executable, "-m", "node.cli", *arguments, "--config", str(node.file)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    peers = overread("peer", "list")
    pacs, modality, _, web, viewer = re.split(r"\n(?! )", peers.rstrip())
    assert pacs.startswith(
        f"pacs  OLD at 127.0.0.1:{node.settings.peer[0].port}  TLS no  may send, receive\n"
        "      takes SR as Enhanced SR, SC yes ("
    )
    assert modality.startswith("modality  MODALITY  TLS no  may send\n")
    assert web.startswith(f"web  http://127.0.0.1:{orthanc.http}/dicom-web  TLS no  may receive\n")
    assert "      takes SR as Comprehensive 3D SR, SC yes" in web
    assert "SC yes" in viewer and "SR" not in viewer
    assert f"web (http://127.0.0.1:{orthanc.http}/dicom-web) answered in" in overread("peer", "echo", "web")


def test_files_are_sent_to_a_url_too(node: RunningNode, orthanc: Orthanc, film: Callable[..., Path]) -> None:
    one = film()
    command = [sys.executable, "-m", "node.cli", "send", str(one), "--to", "web", "--config", str(node.file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1 of 1 files stored at web\n"), done.stderr
    (there,) = orthanc.instances(str(dcmread(one).StudyInstanceUID)).values()
    assert dcmread(io.BytesIO(there)).PixelData == dcmread(one).PixelData


@pytest.mark.fault
@pytest.mark.parametrize("point", ["spool.forms.before_rename", "spool.forms.after_rename", "deliver.formed"])
def test_a_kill_while_a_form_is_made_loses_nothing(
    node: RunningNode, old: StoreSCP, film: Callable[..., Path], storescu: Callable[..., bool], point: str
) -> None:
    chest = film()
    uid = str(dcmread(chest, stop_before_pixels=True).StudyInstanceUID)
    node.arm(point)
    assert storescu(node, chest)
    node.wait_for(node.went_off)
    study = node.finish(uid, seconds=60)
    (report,) = [d for d in deliveries.of_study(node.parts.store, study.id) if (d.peer, d.kind) == ("pacs", "sr")]
    mine = [ds for ds in map(dcmread, old.kept()) if ds.StudyInstanceUID == uid and ds.Modality == "SR"]
    assert [ds.SOPInstanceUID for ds in mine] == [report.sop_instance_uid]
    assert node.problems() == []
