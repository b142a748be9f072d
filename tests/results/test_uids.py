from __future__ import annotations

from typing import Any

import pytest
from pydicom.uid import UID

from node.results import uids

FIELDS: dict[str, Any] = {
    "kind": "sr",
    "inputs": [("1.2.3", "aa"), ("1.2.4", "bb")],
    "bundle_digest": "b",
    "settings_digest": "s",
    "version": "0.1.0",
    "revision": 1,
    "ordinal": 1,
    "route": "chest",
}


def test_a_uid_is_the_same_everywhere_and_for_ever() -> None:
    # Written down once: a change of the name space or of the recipe would give every sent result a second name.
    assert uids.device_uid("NODE-0001") == "2.25.10507838902394648583925920050326518515"
    assert uids.tracking_uid("1.2.3", "Mass") == "2.25.269899332826909329312834803924503710596"


@pytest.mark.parametrize(
    "uid",
    [
        uids.device_uid("x"),
        uids.result_uid(**FIELDS),
        uids.series_uid("1.2", "sr", "chest-1.0.0"),
        uids.tracking_uid("1.2", "Mass"),
        uids.IMPLEMENTATION_CLASS_UID,
    ],
)
def test_every_uid_is_valid(uid: str) -> None:
    assert UID(uid).is_valid and len(uid) <= 64


def test_the_order_of_the_images_does_not_matter() -> None:
    assert uids.result_uid(**{**FIELDS, "inputs": FIELDS["inputs"][::-1]}) == uids.result_uid(**FIELDS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "sc"),
        ("inputs", [("1.2.3", "aa")]),
        ("inputs", [("1.2.3", "aa"), ("1.2.4", "other")]),
        ("bundle_digest", "other"),
        ("settings_digest", "other"),
        ("version", "0.1.1"),
        ("revision", 2),
        ("ordinal", 2),
        ("route", "other"),
        ("context", ["another image of the job"]),
    ],
)
def test_whatever_changes_a_result_changes_its_uid(field: str, value: Any) -> None:
    assert uids.result_uid(**{**FIELDS, field: value}) != uids.result_uid(**FIELDS)


def test_neighbouring_parts_cannot_run_into_each_other() -> None:
    assert uids.series_uid("1.2", "sr", "a") != uids.series_uid("1.2", "s", "ra")


def test_the_series_differs_by_study_kind_model_and_route() -> None:
    made = {
        uids.series_uid("1.2", "sr", "chest-1.0.0"),
        uids.series_uid("1.3", "sr", "chest-1.0.0"),
        uids.series_uid("1.2", "sc", "chest-1.0.0"),
        uids.series_uid("1.2", "sr", "chest-1.0.1"),
        uids.series_uid("1.2", "sr", "chest-1.0.0", route="b"),
    }
    assert len(made) == 5
