"""Two models read the same study, as the example settings have it: each answers for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from running import ROUTE, RunningNode

from node.network.sender import Sender
from node.network.standin import StandIn

pytestmark = [pytest.mark.model, pytest.mark.slow]
SECOND = ROUTE.replace('"chest"', '"second"').replace('"chest-findings"', '"chest-abnormal"')


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    made = StandIn(tmp_path_factory.mktemp("pacs"), ae_title="PACS")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(pacs: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    made = RunningNode(tmp_path_factory.mktemp("node"), ("PACS", pacs.port), route=ROUTE + SECOND)
    made.start()
    yield made
    made.stop()


def answers(node: RunningNode, pacs: StandIn, path: Path) -> dict[str, list[Dataset]]:
    """Send a film; what the PACS then holds of its study, by modality."""
    sender = Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=30
    )
    assert [outcome.kind for _, outcome in sender.send([path])] == ["stored"]
    sender.close()
    uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    node.finish(uid)
    found: dict[str, list[Dataset]] = {}
    for ds in map(dcmread, pacs.received()):
        if ds.StudyInstanceUID == uid:
            found.setdefault(ds.Modality, []).append(ds)
    return found


def test_a_chest_gets_a_report_and_a_picture_of_each_model(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path]
) -> None:
    found = answers(node, pacs, film())
    assert {modality: len(objects) for modality, objects in found.items()} == {"SR": 2, "OT": 2}
    for objects in found.values():
        assert len({ds.SeriesInstanceUID for ds in objects}) == 2
        named = sorted(ds.SeriesDescription.split(", ")[1].split()[0] for ds in objects)
        assert named == ["chest-abnormal", "chest-findings"]


def test_a_leg_is_refused_by_each_model(node: RunningNode, pacs: StandIn, film: Callable[..., Path]) -> None:
    found = answers(node, pacs, film("RG3_UNCR.dcm"))
    assert [ds.CompletionFlagDescription for ds in found["SR"]] == ["Not Attempted"] * 2
    assert node.problems() == []
