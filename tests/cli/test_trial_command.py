"""`overread peer test` as a person types it, without a node that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from node.admin import step
from node.admin.step import Step
from node.cli import app, trial
from node.network.standin import StandIn

Run = Callable[..., Result]


def test_each_step_is_a_line_and_what_could_not_be_proven_an_exit_code(overread: Run, pacs: StandIn) -> None:
    done = overread("peer", "test", "pacs", "--yes", "--wait", "1")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"ok       connect       127.0.0.1:{pacs.port} takes connections, in ")
    assert "skipped  tls           this peer is used without TLS: nothing is encrypted" in lines
    assert (
        f"{'':<23}SC Secondary Capture Image Storage                   yes, in Explicit VR Little Endian" in done.stdout
    )
    at = lines.index("skipped  study         the node does not run (receive, infer, dispatch not ready)")
    assert lines[at + 1].strip() == "start it here: `overread serve`"
    assert lines[at + 2] == "skipped  result        there is no study to make a result of"
    assert lines[-1] == "skipped  clean-up      nothing was made"


def test_a_modality_is_only_waited_for(overread: Run) -> None:
    done = overread("peer", "test", "modality", "--json")
    said = {line["step"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert said["echo"]["text"] == said["store"]["text"] == 'modality may only "send"'
    assert said["inbound"]["text"] == "our listener does not run"
    assert done.exit_code == 1


def test_what_cannot_be_asked_is_said_so(overread: Run, file: Path) -> None:
    done = overread("peer", "test", "nobody")
    assert (done.exit_code, done.stderr.strip()) == (
        2,
        "nobody: no such [[peer]] in the settings (have: pacs, modality)",
    )
    done = overread("peer", "test", "pacs", "--yes", "--no-store")
    assert (done.exit_code, done.stderr.strip()) == (2, "--yes and --no-store contradict each other")


@pytest.mark.parametrize(("typed", "why"), [("y\n", ""), ("n\n", "nothing is stored there: you said no")])
def test_a_person_is_asked_before_anything_is_stored(
    file: Path, monkeypatch: pytest.MonkeyPatch, typed: str, why: str
) -> None:
    answers: list[str] = []

    def run(*_: object, rules: trial.Rules, **__: object) -> object:
        answers.append(rules.withheld("Store 2 results?"))
        yield step.ok("store", "as asked")

    monkeypatch.setattr("node.admin.trial.run", run)
    monkeypatch.setattr(trial, "_is_asked", lambda: True)
    done = CliRunner().invoke(app, ["peer", "test", "pacs", "--config", str(file)], input=typed)
    assert done.exit_code == 0
    assert "Store 2 results?" in done.stderr and answers == [why]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (step.ok("a", "x"), 0),
        (step.warn("a", "x", "y here"), 0),
        (step.left_out("a", "x"), 0),
        (step.unable("a", "x"), 1),
        (step.fail("a", "x", "y there"), 1),
        (step.warn("a", "x", "y here", proven=False), 1),
        (step.waiting("a", "x"), 0),
    ],
)
def test_only_what_is_proven_ends_with_0(file: Path, monkeypatch: pytest.MonkeyPatch, said: Step, code: int) -> None:
    monkeypatch.setattr("node.admin.trial.run", lambda *_, **__: iter_of(said))
    assert CliRunner().invoke(app, ["peer", "test", "pacs", "--config", str(file)]).exit_code == code


def iter_of(said: Step) -> object:
    yield said
