"""Nothing that a node logs, at any level and in either form, names a patient; the audit trail alone does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import make_image
from pydicom import dcmread
from running import RunningNode

from node.errors import PeerError
from node.network.sender import Sender
from node.network.standin import StandIn

pytestmark = [pytest.mark.slow]

PLANTED = {"PatientName": "Canary^Yellow", "PatientID": "CANARY4711", "AccessionNumber": "CANACC99"}
AUDIT = '\n[audit]\nfile = "audit.xml"\n'


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_line_names_a_patient(tmp_path: Path, pacs: StandIn, form: str) -> None:
    variables = {"OVERREAD_LOG__FORM": form, "OVERREAD_LOG__LEVEL": "DEBUG"}
    node = RunningNode(tmp_path / "node", ("PACS", pacs.port), stub=True, **variables)
    node.file.write_text(node.file.read_text() + AUDIT)
    node.start()
    try:
        film = make_image(tmp_path / "film.dcm", **PLANTED)
        uid = str(dcmread(film).StudyInstanceUID)
        more = PLANTED | {"StudyInstanceUID": uid, "Modality": "OT", "BodyPartExamined": "KNEE"}
        other = make_image(tmp_path / "other.dcm", **more)
        sender = Sender(
            calling_ae_title="MODALITY", called_ae_title=node.ae_title, host="127.0.0.1", port=node.port, timeout=10
        )
        assert [outcome.kind for _, outcome in sender.send([film, other])] == ["stored", "stored"]
        sender.close()
        node.order("raise")
        node.finish(uid)
        same = {"StudyInstanceUID": uid, "SOPInstanceUID": str(dcmread(film).SOPInstanceUID)}
        assert [o.kind for _, o in sender.send([make_image(tmp_path / "twin.dcm", **same, PatientID="CANARY4712")])]
        sender.close()
        stranger = Sender(
            calling_ae_title="STRANGER", called_ae_title=node.ae_title, host="127.0.0.1", port=node.port, timeout=10
        )
        with pytest.raises(PeerError):
            stranger.echo()
        trail = node.folder / "audit.xml"
        node.wait_for(lambda: trail.exists() and "STRANGER" in trail.read_text())
    finally:
        node.stop()
    lines = node.log.splitlines()
    assert len(lines) > 10
    for planted in ("Canary", "CANARY", "CANACC", uid):
        assert not [line for line in lines if planted in line], planted
    if form == "json":
        said = [json.loads(line) for line in lines]
        assert {one["process"] for one in said} == {"supervisor", "receive", "infer", "dispatch", "web"}
        assert {"study.settled", "study.routed", "job.reported", "association.rejected"} <= {
            one.get("event") for one in said
        }
    told = trail.read_text()
    assert PLANTED["PatientID"] in told and uid in told and "Application Stop" in told
