from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from models.findings import Presence
from node.results import sr, summary
from node.results.summary import sentence

P, A, U = Presence.PRESENT, Presence.ABSENT, Presence.UNDETERMINED
ABSENT = [(f"finding {n}", "1.0 %", A) for n in range(6)]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([("Abnormal", "12.0 %", U)], "Abnormal 12.0 % undetermined"),
        ([("Abnormal", "2.0 %", A)], "Abnormal 2.0 % not above its threshold"),
        (ABSENT, "nothing of these 6 above its threshold"),
        ([("Mass", "40.3 %", P), *ABSENT], "Mass 40.3 % present; nothing else of these 7 above its threshold"),
        (
            [*ABSENT, ("Mass", "40.3 %", P), ("Effusion", "9.0 %", U)],
            "Mass 40.3 % present; nothing else of these 8 above its threshold; undetermined: Effusion 9.0 %",
        ),
        ([("Mass", "40.3 %", P), ("Effusion", "90.0 %", P)], "Mass 40.3 % present, Effusion 90.0 % present"),
    ],
)
def test_a_sentence_names_what_is_present_and_left_open_and_counts_the_rest(
    found: list[tuple[str, str, Presence]], said: str
) -> None:
    assert sentence(found) == said


def test_the_most_certain_finding_is_the_highest_of_those_present(make: Any) -> None:
    below, low, high = (
        make.finding("Mass", 0.8, threshold=0.95),
        make.finding("Effusion", 0.5),
        make.finding("Pneumonia", 0.7),
    )
    assert summary.most_certain([below, low, high]) is high
    assert summary.most_certain([below]) is None
    assert summary.most_certain([make.finding("Mass", float("nan"))]) is None


def test_labels_of_one_code_are_told_apart_by_their_names(make: Any) -> None:
    heart, lungs = make.finding("Mass", 0.2), make.finding("Pneumonia", 0.3)
    twin = dataclasses.replace(heart, label="CT mass")
    assert summary.names([heart, lungs]) == {"Mass": "Lung mass", "Pneumonia": "Pneumonia"}
    assert summary.names([heart, lungs, twin]) == {
        "Mass": "Lung mass (Mass)",
        "Pneumonia": "Pneumonia",
        "CT mass": "Lung mass (CT mass)",
    }
    plain = dataclasses.replace(heart, label="lung mass")  # says no more than the code does
    assert summary.names([plain, twin]) == {"lung mass": "Lung mass", "CT mass": "Lung mass (CT mass)"}
    text = sr.as_text(sr.build(make.subject(make.evidence(make.source(), make.analysed(heart, lungs, twin)))))
    names = [
        line.split("  ")[1].strip() for line in text.splitlines() if line.startswith("  ") and "present from" in line
    ]
    assert names == ["Lung mass (Mass)", "Pneumonia", "Lung mass (CT mass)"]
