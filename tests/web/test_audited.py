"""Who logged in, who could not, and who looked at a study, is in the audit trail where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from house import House, make_image
from visitors import PASSWORD, Person

from node.domain import Study
from node.storage import accounts as rows
from node.storage import auditing
from node.storage.accounts import Role


@pytest.fixture
def web_settings() -> str:
    return '[audit]\nfile = "audit.xml"\n'


def told(house: House) -> list[str]:
    return [text for _, text in auditing.waiting(house.store, "file", 100)]


def test_logins_are_told_also_those_that_fail(house: House, stranger: Person, digest: str) -> None:
    rows.add(house.store, "vera", Role.VIEWER, digest, now=house.now)
    assert stranger.fill("/login", name="vera", password="wrong password").status_code == 401
    assert stranger.fill("/login", name="vera", password=PASSWORD).status_code == 303
    assert stranger.post("/logout").status_code == 303
    failed, entered, left = told(house)
    assert all('UserID="vera"' in text for text in (failed, entered, left))
    assert 'EventOutcomeIndicator="4"' in failed and 'EventOutcomeIndicator="0"' in entered
    assert "Login" in entered and "Logout" in left
    assert PASSWORD not in failed + entered + left


def test_who_opens_a_study_is_told(
    house: House, viewer: Person, routed: Callable[[Path], Study], tmp_path: Path
) -> None:
    study = routed(make_image(tmp_path / "a.dcm"))
    assert viewer.get(f"/studies/{study.id}").status_code == 200
    (text,) = told(house)
    assert 'UserID="vera"' in text and study.study_instance_uid in text
