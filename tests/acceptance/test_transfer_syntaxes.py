"""The same film in every transfer syntax that is accepted comes in unaltered and gets the same score."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from encodings_made import by_dcmtk, by_openjph, by_pydicom
from pydicom import dcmread
from pydicom.uid import (
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from running import RunningNode

from models.pixels import decoded_equal
from node.network.sender import Sender
from node.network.standin import StandIn
from node.storage import instances, jobs
from node.storage.spool import digest_of

pytestmark = [pytest.mark.dcmtk, pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    pacs = StandIn(tmp_path_factory.mktemp("pacs"), ae_title="PACS")
    pacs.start()
    made = RunningNode(tmp_path_factory.mktemp("node"), ("PACS", pacs.port))
    made.start()
    yield made
    made.stop()
    pacs.stop()


DCMSEND = "dcmsend"
PYNETDICOM = "pynetdicom"
ENCODED = [
    # dcmsend offers Explicit VR too, which the node prefers: Implicit loses private VRs
    (ImplicitVRLittleEndian, by_pydicom(ImplicitVRLittleEndian), PYNETDICOM),
    (RLELossless, by_pydicom(RLELossless), DCMSEND),
    (JPEGLosslessSV1, by_dcmtk, DCMSEND),
    (JPEGLSLossless, by_pydicom(JPEGLSLossless), DCMSEND),
    (JPEG2000Lossless, by_pydicom(JPEG2000Lossless), DCMSEND),
    # DCMTK 3.6.7 does not know HTJ2K
    (HTJ2KLossless, by_openjph, PYNETDICOM),
]


def scores(node: RunningNode, path: Path) -> dict[str, float]:
    study = node.finish(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID))
    (job,) = jobs.of_study(node.parts.store, study.id)
    found = {row.label: row.score for row in jobs.findings(node.parts.store, job.id) if row.score is not None}
    assert found, job.reason
    return found


def send(node: RunningNode, path: Path, program: str) -> None:
    if program == DCMSEND:
        # -nuc: proposed as it lies there, so that nothing is decoded on the way
        command = [DCMSEND, "-nuc", "-aet", "MODALITY", "-aec", "OVERREAD", "127.0.0.1", str(node.port), str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return
    sender = Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=30
    )
    assert [o.kind for _, o in sender.send([path])] == ["stored"]
    sender.close()


@pytest.mark.parametrize(("syntax", "encode", "by"), ENCODED, ids=[syntax.name for syntax, _, _ in ENCODED])
def test_a_film_gets_the_same_score_in_every_lossless_encoding(
    node: RunningNode,
    film: Callable[..., Path],
    tmp_path: Path,
    program: Callable[[str], str],
    syntax: str,
    encode: Callable[[Path, Path], None],
    by: str,
) -> None:
    program(DCMSEND)
    plain = film()
    send(node, plain, DCMSEND)
    encoded = tmp_path / "encoded.dcm"
    encode(film(), encoded)
    send(node, encoded, by)
    assert scores(node, encoded) == pytest.approx(scores(node, plain), abs=1e-6)
    study = node.study(str(dcmread(encoded, stop_before_pixels=True).StudyInstanceUID))
    assert study is not None
    (kept,) = instances.of_study(node.parts.store, study.id)
    assert kept.transfer_syntax_uid == syntax
    assert decoded_equal(kept.path, encoded)
    if by == PYNETDICOM:
        # dcmsend writes sequences and padding its own way; pynetdicom sends the file's very bytes
        assert kept.digest == digest_of(encoded)
