"""An alarm is told when it lasts, while it lasts, and when it is over; what flaps wakes nobody."""

from __future__ import annotations

from typing import Any

from rows import NOW

from node.storage import alarms
from node.storage.alarms import Alarm, Rules
from node.storage.store import Store

RULES = Rules(after=60, again=86400, channels=("webhook", "mail"), node="OVERREAD")
HELD = Alarm("study.HELD", "warning", "1 study is held", "`overread held list`")


def look(store: Store, at: float, *found: Alarm) -> list[tuple[Any, str]]:
    return alarms.see(store, found, RULES, now=NOW + at)


def test_an_alarm_is_told_once_it_has_lasted(store: Store) -> None:
    assert look(store, 0, HELD) == []
    assert look(store, 59, HELD) == []
    assert look(store, 60, HELD) == [("raised", "study.HELD")]
    assert look(store, 75, HELD) == []
    due = alarms.due(store, now=NOW + 75, longest=3600)
    assert [(n.channel, n.body["event"], n.body["since"]) for n in due] == [
        ("webhook", "raised", NOW),
        ("mail", "raised", NOW),
    ]


def test_it_is_told_again_each_day_while_it_lasts(store: Store) -> None:
    look(store, 0, HELD)
    look(store, 60, HELD)
    assert look(store, 86400 + 59, HELD) == []
    assert look(store, 86400 + 60, HELD) == [("lasts", "study.HELD")]
    assert look(store, 86400 + 75, HELD) == []


def test_it_is_told_when_it_is_over(store: Store) -> None:
    look(store, 0, HELD)
    look(store, 60, HELD)
    assert look(store, 75) == []
    assert look(store, 119) == []
    assert look(store, 120) == [("over", "study.HELD")]
    assert alarms.standing(store) == []
    assert look(store, 135) == []


def test_what_comes_and_goes_is_told_of_neither(store: Store) -> None:
    for at in range(0, 600, 30):
        assert look(store, at, *([HELD] if at % 60 == 0 else [])) == []


def test_what_was_told_and_flaps_is_one_alarm(store: Store) -> None:
    look(store, 0, HELD)
    look(store, 60, HELD)
    for at in range(75, 600, 15):
        assert look(store, at, *([HELD] if at % 45 == 0 else [])) == []
    assert len(alarms.standing(store)) == 1


def test_a_clock_that_is_set_back_keeps_no_alarm_quiet(store: Store) -> None:
    look(store, 0, HELD)
    assert look(store, -7200, HELD) == []
    assert look(store, -7200 + 60, HELD) == [("raised", "study.HELD")]


def test_what_is_to_be_told_waits_in_a_row_until_it_was(store: Store) -> None:
    look(store, 0, HELD)
    look(store, 60, HELD)
    first, second = alarms.due(store, now=NOW + 60, longest=3600)
    alarms.later(store, first, "no route to host", due_at=NOW + 120)
    alarms.done(store, second)
    assert alarms.due(store, now=NOW + 61, longest=3600) == []
    assert alarms.untold(store) == [("webhook", 1, "no route to host")]
    (again,) = alarms.due(store, now=NOW + 120, longest=3600)
    assert again.attempts == 1
    # due in what is the far future for a clock that was set back
    alarms.later(store, again, "no route to host", due_at=NOW + 120)
    assert len(alarms.due(store, now=NOW - 7200, longest=3600)) == 1
