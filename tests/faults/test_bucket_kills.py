"""SIGKILL around each upload: what was acknowledged is in the bucket, and nothing is there twice. Also: the whole node
with an empty folder, and no database, beside a bucket."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buckets_made import Service
from pydicom import dcmread
from receiving import uid_of
from running import ROUTE, RunningNode

from node.network.standin import StandIn

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.dcmtk]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def node(tmp_path: Path, pacs: StandIn, service: Service) -> Iterator[RunningNode]:
    lines = f'{ROUTE}\n[spool]\nbucket = "{service.bucket}"\nprefix = "node"\nendpoint = "{service.url}"\n'
    made = RunningNode(tmp_path / "node", (pacs.ae_title, pacs.port), quiet=1, stub=True, route=lines)
    made.start()
    yield made
    made.stop()


def sent(pacs: StandIn) -> list[str]:
    return sorted(dcmread(path, stop_before_pixels=True).Modality for path in pacs.received())


@pytest.mark.parametrize(
    "point", ["shelf.added", "spool.obj.before_rename", "spool.obj.after_rename", "report.written"]
)
def test_after_a_kill_there_is_exactly_one_report_and_one_picture(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path], storescu: Callable[..., bool], point: str
) -> None:
    chest = film()
    node.arm(point)
    node.wait_for(lambda: storescu(node, chest), seconds=30)
    node.wait_for(node.went_off, seconds=30)
    node.finish(uid_of(chest), seconds=60)
    assert sent(pacs) == ["OT", "SR"]
    assert node.problems() == []


def test_an_outage_refuses_what_cannot_be_kept_and_ends_with_everything_delivered(
    node: RunningNode, pacs: StandIn, service: Service, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    films = [film(), film()]
    assert storescu(node, films[0])
    service.stop()
    assert not storescu(node, films[1])
    service.start()
    node.wait_for(lambda: storescu(node, films[1]), seconds=30)
    for chest in films:
        node.finish(uid_of(chest), seconds=90)
    assert sent(pacs) == ["OT", "OT", "SR", "SR"]
    assert node.problems() == []


def test_another_machine_begins_again_from_the_bucket_alone(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    chest = film()
    assert storescu(node, chest)
    node.finish(uid_of(chest))
    before, asked = {path.stem: path.read_bytes() for path in pacs.received()}, node.asked()
    node.stop()
    shutil.rmtree(node.settings.node.data_dir)
    assert not node.settings.spool_dir.exists()
    node.start()
    node.finish(uid_of(chest), revision=2)
    assert ({path.stem: path.read_bytes() for path in pacs.received()}, node.asked()) == (before, asked)
    assert node.problems() == []
