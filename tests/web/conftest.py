"""The dashboard of a data folder without running roles, and people with each role who are logged in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from house import House, make_image
from pydicom import dcmread
from visitors import PASSWORD, Person

from config.settings import Settings
from node.admin import accounts
from node.domain import Study
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.service import open_parts
from node.storage import accounts as rows
from node.storage import studies
from node.storage.accounts import Role
from node.web.app import build
from node.web.auth import SESSION

SETTINGS = """
[node]
data_dir = "data"
[listener]
reserve_mb = 0
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 11113
[[route]]
name = "chest"
when = { Modality = ["CR"] }
bundle = "chest-findings"
deliver_to = ["pacs"]
"""


@pytest.fixture
def web_settings() -> str:
    """More lines of the settings file; a test module may override this."""
    return ""


@pytest.fixture
def settings(tmp_path: Path, web_settings: str) -> Settings:
    file = tmp_path / "overread.toml"
    file.write_text(SETTINGS + web_settings)
    return Settings.load(file)


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    parts = open_parts(settings)
    yield House(settings, parts.store, parts.spool, parts.bell, settings.node.data_dir)
    parts.store.close()
    parts.bell.close()


@pytest.fixture
def app(house: House) -> FastAPI:
    return build(house.settings, house.store, house.spool, house.bell, clock=lambda: house.now)


@pytest.fixture
def stranger(app: FastAPI) -> Person:
    return Person(app)


@pytest.fixture(scope="session")
def digest() -> str:
    return accounts.digest(PASSWORD)


@pytest.fixture
def log_in(app: FastAPI, house: House, digest: str) -> Callable[[str, Role], Person]:
    """A new person with an account of that name and role, logged in without the work of a password."""

    def enter(name: str, role: Role) -> Person:
        account = rows.find(house.store, name) or rows.add(house.store, name, role, digest, now=house.now)
        token = f"token of {name}"
        assert rows.log_in(house.store, account, accounts.token_digest(token), address="test", now=house.now)
        person = Person(app)
        person.cookies.set(SESSION, token, domain="127.0.0.1")
        return person

    return enter


@pytest.fixture
def viewer(log_in: Callable[[str, Role], Person]) -> Person:
    return log_in("vera", Role.VIEWER)


@pytest.fixture
def operator(log_in: Callable[[str, Role], Person]) -> Person:
    return log_in("otto", Role.OPERATOR)


@pytest.fixture
def admin(log_in: Callable[[str, Role], Person]) -> Person:
    return log_in("ada", Role.ADMIN)


@pytest.fixture
def routed(house: House) -> Callable[[Path], Study]:
    """Receive a file, settle and route its study, as the dispatch role would."""

    def run(path: Path) -> Study:
        house.receive(path)
        house.now += 100
        settle_due(house.store, house.settings, house.now)
        plans = [Planned(r, "chest-findings@1.0.0") for r in house.settings.route]
        return route_study(house.store, studies.latest(house.store, 1)[0], plans, house.now)

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
        study: Study = house.only_study()
        return study

    return run
