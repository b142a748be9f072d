"""When a pull may go on, under given clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from node.errors import PullError
from node.pipeline.pacing import Pace, window_of


@pytest.fixture(autouse=True, params=["UTC", "Europe/Berlin", "America/New_York"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(hour: int, minute: int = 0, *, day: int = 10) -> float:
    """Local time."""
    return datetime(2026, 6, day, hour, minute).timestamp()


@pytest.mark.parametrize(
    ("window", "hour", "minute", "hours"),
    [
        ("19:00-06:00", 18, 0, 1),
        ("19:00-06:00", 19, 0, 0),
        ("19:00-06:00", 23, 59, 0),
        ("19:00-06:00", 0, 0, 0),
        ("19:00-06:00", 5, 59, 0),
        ("19:00-06:00", 6, 0, 13),
        ("9:00-17:30", 8, 0, 1),
        ("9:00-17:30", 17, 0, 0),
        ("9:00-17:30", 17, 30, 15.5),
        ("09:00 - 17:30", 12, 0, 0),
    ],
)
def test_a_window_opens_when_it_says_also_over_midnight(window: str, hour: int, minute: int, hours: float) -> None:
    assert window_of(window).opens_in(at(hour, minute)) == hours * 3600
    assert Pace(0, window_of(window)).wait(at(hour, minute), None) == hours * 3600


@pytest.mark.parametrize("text", ["19-6", "25:00-06:00", "19:00-06:60", "at night", "", "19:00-"])
def test_what_is_no_window_is_said_with_what_is(text: str) -> None:
    with pytest.raises(PullError, match='hours of the day in local time, such as "19:00-06:00"'):
        window_of(text)


def test_a_window_that_ends_when_it_begins_is_refused() -> None:
    with pytest.raises(PullError, match="begins when it ends"):
        window_of("06:00-06:00")


def test_so_many_studies_a_minute_are_asked_for() -> None:
    pace = Pace(per_minute=4)
    assert pace.wait(at(12), None) == 0
    assert pace.wait(at(12), at(12)) == 15
    assert pace.wait(at(12) + 10, at(12)) == 5
    assert pace.wait(at(12) + 20, at(12)) == 0


def test_a_clock_that_was_set_back_stops_no_pull() -> None:
    assert Pace(per_minute=4).wait(at(12), at(12, day=11)) == 15


def test_without_limits_nothing_waits() -> None:
    assert Pace().wait(at(12), at(12)) == 0


def test_the_window_holds_also_where_the_pace_would_allow() -> None:
    assert Pace(600, window_of("19:00-06:00")).wait(at(18), at(17)) == 3600
