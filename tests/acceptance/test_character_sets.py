"""Names of every character set go through a real Orthanc, the node, and back into Orthanc."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from house import make_image
from names_made import FILES, IDS, attributes
from pydicom import dcmread
from running import RunningNode

from node.network.orthanc import Orthanc

pytestmark = [pytest.mark.orthanc, pytest.mark.slow]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_name_comes_back_from_the_pacs_as_it_went(
    stubbed: RunningNode, orthanc: Orthanc, tmp_path: Path, path: Path
) -> None:
    given = attributes(path)
    film = make_image(tmp_path / "film.dcm", **given)
    uid = str(dcmread(film).StudyInstanceUID)
    orthanc.upload(film)
    orthanc.send_study(uid)
    stubbed.finish(uid)
    objects = [dcmread(io.BytesIO(data)) for data in orthanc.instances(uid).values()]
    assert sorted(ds.Modality for ds in objects) == ["CR", "OT", "SR"]
    for ds in objects:
        assert str(ds.PatientName) == str(given["PatientName"]), ds.Modality
        assert ds.PatientName.components == given["PatientName"].components, ds.Modality
    assert str(given["PatientName"]) not in stubbed.log
