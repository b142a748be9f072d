"""Every kind of result arrives in a real PACS, and other programs read it."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from running import ROUTE, RunningNode

from node.network.orthanc import Orthanc, free_port
from node.storage import jobs, quarantine

pytestmark = [pytest.mark.orthanc, pytest.mark.dcmtk, pytest.mark.slow]

Film = Callable[..., Path]


@pytest.fixture(scope="module")
def pacs(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program("Orthanc")
    made = Orthanc(tmp_path_factory.mktemp("orthanc"), node_ae_title="OVERREAD", node_port=free_port())
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def talkative(pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node that makes everything it can."""
    route = ROUTE + 'results = ["sr", "sc", "gsps", "kos", "pdf"]\n'
    address = (pacs.ae_title, pacs.port)
    node = RunningNode(tmp_path_factory.mktemp("node"), address, port=pacs.node_port, route=route, stub=True)
    node.start()
    yield node
    node.stop()


def test_five_kinds_of_results_come_back_into_the_study(
    talkative: RunningNode, pacs: Orthanc, film: Film, program: Callable[[str], str], tmp_path: Path
) -> None:
    chest = film()
    uid = str(dcmread(chest, stop_before_pixels=True).StudyInstanceUID)
    pacs.upload(chest)
    pacs.send_study(uid)
    study = talkative.finish(uid)
    held = [dcmread(io.BytesIO(data)) for data in pacs.instances(uid).values()]
    source = next(ds for ds in held if ds.Modality == "CR")
    ours = {ds.Modality: ds for ds in held if ds.Modality != "CR"}
    assert set(ours) == {"SR", "OT", "PR", "KO", "DOC"}
    assert all((ds.PatientID, ds.PatientName) == (source.PatientID, source.PatientName) for ds in ours.values())
    (series,) = ours["PR"].ReferencedSeriesSequence
    assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert ours["PR"].PresentationLUTShape == "INVERSE", "RG1 is MONOCHROME1"
    document = ours["DOC"].EncapsulatedDocument[: ours["DOC"].EncapsulatedDocumentLength]
    (tmp_path / "document.pdf").write_bytes(document)
    read = subprocess.run(
        [program("pdftotext"), str(tmp_path / "document.pdf"), "-"], capture_output=True, text=True, check=True
    )
    assert "RESEARCH USE ONLY" in read.stdout and str(source.PatientID) not in read.stdout
    assert [r.quarantine for r in jobs.results(talkative.parts.store, study.id)] == [""] * 5


def test_nothing_was_put_aside_and_the_invariants_hold(talkative: RunningNode) -> None:
    assert quarantine.waiting(talkative.parts.store) == 0
    assert talkative.problems() == []
