"""A data folder without running roles, a PACS that answers, and the program as a person types it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import House, make_image
from pydicom import dcmread
from typer.testing import CliRunner, Result

from config.settings import Settings
from node.cli import app
from node.domain import Study
from node.network.standin import StandIn
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.service import open_parts

SETTINGS = """
[node]
data_dir = "data"
[listener]
port = {listener}
reserve_mb = 0
[deliver]
timeout_seconds = 5
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {port}
[[peer]]
name = "modality"
ae_title = "MODALITY"
networks = ["127.0.0.1"]
may = ["send"]
[[route]]
name = "chest"
when = {{ Modality = ["CR"] }}
bundle = "chest-findings"
deliver_to = ["pacs"]
"""


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def file(tmp_path: Path, pacs: StandIn) -> Path:
    from node.network.orthanc import free_port

    path = tmp_path / "overread.toml"
    path.write_text(SETTINGS.format(port=pacs.port, listener=free_port()))
    return path


@pytest.fixture
def house(file: Path) -> Iterator[House]:
    settings = Settings.load(file)
    parts = open_parts(settings)
    made = House(settings, parts.store, parts.spool, parts.bell, settings.node.data_dir)
    yield made
    parts.store.close()
    parts.bell.close()


@pytest.fixture
def overread(file: Path) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments), "--config", str(file)], catch_exceptions=False)

    return run


@pytest.fixture
def routed(house: House) -> Callable[[Path], Study]:
    """Receive a file, settle and route its study, as the dispatch role would."""

    def run(path: Path) -> Study:
        house.receive(path)
        house.now += 100
        settle_due(house.store, house.settings, house.now)
        plans = [Planned(r, "chest-findings@1.0.0") for r in house.settings.route]
        return route_study(house.store, house.only_study(), plans, house.now)

    return run


@pytest.fixture
def contradicted(house: House, routed: Callable[[Path], Study], tmp_path: Path) -> Callable[[], Study]:
    """A study whose only image came again as another patient's."""

    def run() -> Study:
        first = make_image(tmp_path / "first.dcm")
        routed(first)
        ds = dcmread(first)
        same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
        house.receive(make_image(tmp_path / "second.dcm", **same, PatientID="P2", PatientName="Roe^Richard"))
        return house.only_study()

    return run
