"""A line for a collector says what the line for people says, in keys."""

from __future__ import annotations

import json
import logging

import pytest

from node.logs import JsonLines, fields


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study.routed study=ab12 revision=2 state=ROUTED", {"study": "ab12", "revision": 2, "state": "ROUTED"}),
        (
            "association.rejected rule=called-ae-title calling='A B' called=\"it's\"",
            {"calling": "A B", "called": "it's"},
        ),
        ("job.answer-void study=a job=3: the lease was lost", {"job": 3, "message": "the lease was lost"}),
        ("role.listening bind=0.0.0.0 port=11112", {"bind": "0.0.0.0", "port": 11112}),
        ("clock.set seconds=+3600", {"seconds": 3600}),
        ("x.y event=z level=1", {"event": "x.y", "event_": "z", "level_": 1}),
        ("step.failed KeyError at infer.py:12 ", {"message": "KeyError at infer.py:12 "}),
        ("instance.lost instance=4: its file is not what was received", {"instance": 4}),
        ("x.y reason=", {"reason": ""}),
        ("x.y id=0123 big=12345678901234567890", {"id": "0123", "big": "12345678901234567890"}),
    ],
)
def test_event_and_fields_are_keys(text: str, said: dict[str, object]) -> None:
    assert said.items() <= fields(text).items()
    assert fields(text)["event"] == text.split()[0]


def test_what_is_no_event_is_a_message() -> None:
    assert fields("dispatch cannot start: no peer = x") == {"message": "dispatch cannot start: no peer = x"}


def test_a_line_has_time_level_and_process() -> None:
    record = logging.LogRecord("node.x", logging.INFO, "f", 1, "study.settled study=%s", ("ab12",), None)
    record.created = 1_800_000_000.25
    line = JsonLines("dispatch").format(record)
    assert "\n" not in line
    assert json.loads(line) == {
        "at": "2027-01-15T08:00:00.250Z",
        "level": "INFO",
        "process": "dispatch",
        "logger": "node.x",
        "event": "study.settled",
        "study": "ab12",
    }
