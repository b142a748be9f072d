"""What a reload examines, how it waits for the roles, and how it goes back; the roles are played by their notes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from config import inforce
from config.settings import Settings, SettingsFileError
from node import reload
from node.admin import taking_up
from node.errors import NotRunning, SettingsError
from node.reload import Reloaded, examined
from node.storage import roles

TEXT = """
[node]
data_dir = "data"
[infer]
deadline_seconds = 1
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
[[route]]
name = "chest"
bundle = "chest-findings"
deliver_to = ["pacs"]
"""
CT = '[[peer]]\nname = "ct"\nae_title = "CT"\nnetworks = ["127.0.0.1"]\nmay = ["send"]\n'
Say = Callable[..., None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "overread.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def in_force(file: Path) -> Settings:
    return Settings.load(file)


def refusal(file: Path, in_force: Settings, text: str) -> str:
    file.write_text(text)
    with pytest.raises((SettingsFileError, SettingsError)) as caught:
        examined(file, in_force, None)
    return str(caught.value)


def test_a_change_is_said_and_what_is_read_at_start_is_kept_back(file: Path, in_force: Settings) -> None:
    file.write_text("[listener]\nport = 104\n" + TEXT + CT)
    said = examined(file, in_force, {"chest": "chest-findings@0.9.0"})
    assert said["said"] == ["peer ct was added", "route chest runs chest-findings@1.0.0 (was chest-findings@0.9.0)"]
    assert said["at_start"] == ["listener.port"]
    taken = inforce.restored(json.loads(json.dumps(said["settings"])), file)
    assert (taken.listener.port, [p.name for p in taken.peer]) == (11112, ["pacs", "ct"])


def test_tls_comes_and_goes_with_a_restart_only(file: Path, in_force: Settings) -> None:
    words = f"{file}: [tls] was added: restart the node"
    assert refusal(file, in_force, TEXT + "[tls]\n") == words
    file.write_text(TEXT + "[tls]\n")
    assert refusal(file, Settings.load(file), TEXT) == f"{file}: [tls] was removed: restart the node"


def test_what_is_not_valid_without_a_restart_is_refused_as_a_whole(file: Path) -> None:
    file.write_text(TEXT + "[tls]\n")
    before = Settings.load(file)
    plain = TEXT + "[tls]\nplain = true\n" + CT + "tls = false\n"
    assert refusal(file, before, plain) == (
        f"{file}: tls.plain cannot change while the node runs, and without that: peer[1] (ct): tls = false, but nobody "
        "may send in plain (tls.plain = false): restart the node"
    )


def test_files_of_tls_are_looked_at_before_anybody_uses_them(file: Path) -> None:
    file.write_text(TEXT + "[tls]\n")
    missing = file.parent / "none.crt"
    changed = TEXT + f'[tls]\ncertificate = "{missing.name}"\n'
    assert refusal(file, Settings.load(file), changed) == f"[tls] {missing}: No such file or directory"


def test_a_route_without_its_bundle_is_refused(file: Path, in_force: Settings) -> None:
    said = refusal(file, in_force, TEXT.replace("chest-findings", "none"))
    assert said.startswith("route[0].bundle = 'none': none: no such bundle in ")


# --- the steps -------------------------------------------------------------------------------------------


class Node:
    """A supervisor's side of a reload, and three roles that are their notes."""

    def __init__(self, file: Path, says: dict[str, Say]) -> None:
        self.file, self.says = file, says
        settings = Settings.load(file)
        self.folder = settings.node.data_dir / roles.FOLDER
        self.kept = self.folder / "supervisor.settings.json"
        inforce.write(settings, self.kept, at=1)
        self.renewed: list[str] = []
        self.refuses = ""
        self.broken: list[str] = []
        for name in roles.ROLES:
            says[name]("ready", settings=1)

    @property
    def at(self) -> float:
        return inforce.read(self.kept)[1]

    def wake(self) -> None:
        for name in (name for name in ("receive", "infer") if name not in self.broken):
            refused = {"refused": {"at": self.at, "why": "no such model"}} if name == self.refuses else {}
            self.says[name]("ready", **(refused or {"settings": self.at}))

    def renew(self, name: str) -> None:
        self.renewed.append(name)
        if name not in self.broken:
            self.says[name]("ready", settings=self.at)

    def reload(self) -> Reloaded:
        steps = reload.reload(self.file, self.kept, processes=roles.ROLES, wake=self.wake, renew=self.renew)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]


@pytest.fixture
def node(file: Path, in_force: Settings) -> Iterator[Node]:
    with ExitStack() as held:
        yield Node(file, {n: held.enter_context(roles.only_one(in_force.node.data_dir, n)) for n in roles.ROLES})


def test_dispatch_is_renewed_when_the_others_have_taken_the_settings_up(node: Node) -> None:
    node.file.write_text(TEXT + CT)
    ended = node.reload()
    assert (ended.refused, ended.said, node.renewed) == ("", ("peer ct was added",), ["dispatch", "web"])
    assert [p.name for p in inforce.read(node.kept)[0].peer] == ["pacs", "ct"]
    assert list(node.folder.glob("*.verdict")) == []


def test_nothing_is_put_in_force_when_nothing_was_changed(node: Node) -> None:
    node.file.write_text("# only a comment\n" + TEXT)
    assert node.reload() == Reloaded()
    assert (node.at, node.renewed) == (1, [])


def test_a_file_that_is_refused_leaves_all_as_it_was(node: Node) -> None:
    node.file.write_text(TEXT + "[nonsense]\n")
    assert node.reload().refused.startswith(f"{node.file}: nonsense: no such key (have: ")
    assert (node.at, node.renewed) == (1, [])


def test_all_go_back_when_one_role_cannot_work_with_the_settings(node: Node) -> None:
    node.file.write_text(TEXT + CT)
    node.refuses = "infer"
    assert node.reload().refused == f"{node.file}: infer cannot work with it: no such model"
    assert (node.at, node.renewed) == (1, [])
    assert [p.name for p in inforce.read(node.kept)[0].peer] == ["pacs"]


@pytest.mark.parametrize("name", roles.ROLES)
def test_a_role_that_was_not_ready_keeps_nobody_from_changed_settings(node: Node, name: str) -> None:
    node.broken.append(name)
    node.says[name]("starting")
    node.file.write_text(TEXT + CT)
    ended = node.reload()
    assert (ended.refused, ended.said) == ("", ("peer ct was added",))
    assert ended.warned == (f"{name} was not ready: it takes it up when it starts",)
    assert (node.at > 1, node.renewed) == (True, ["dispatch", "web"])


def test_a_dashboard_that_does_not_come_up_again_takes_nothing_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "READY_SECONDS", 0.05)
    node.broken.append("web")
    node.file.write_text(TEXT + CT)
    ended = node.reload()
    assert (ended.refused, ended.said) == ("", ("peer ct was added",))
    assert ended.warned == ("web did not take it up within 0.1 seconds: see the log",)
    assert (node.at > 1, node.renewed) == (True, ["dispatch", "web"])


def test_all_go_back_when_dispatch_does_not_come_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "READY_SECONDS", 0.05)
    monkeypatch.setattr(node, "renew", node.renewed.append)
    node.file.write_text(TEXT + CT)
    assert node.reload().refused == f"{node.file}: dispatch did not take it up within 0.1 seconds: see the log"
    assert (node.at, node.renewed) == (1, ["dispatch", "dispatch"])


def test_a_check_that_does_not_end_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "CHECK_SECONDS", 0)
    assert node.reload().refused == f"{node.file}: could not be checked within 0 seconds"


def test_a_check_that_dies_is_no_permission(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    words = f"{node.file}: could not be checked: its check ended with 1, see the log"
    assert node.reload().refused == words


# --- asking for it ---------------------------------------------------------------------------------------


@pytest.fixture
def supervised(in_force: Settings) -> Iterator[Callable[..., None]]:
    with roles.only_one(in_force.node.data_dir, "supervisor") as say:
        yield lambda **said: say("ready", **({"begun": 0, "ended": 0} | said))


def test_where_nobody_runs_it_is_said(in_force: Settings, file: Path) -> None:
    command = [sys.executable, "-m", "node.cli", "reload", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    words = f"no `overread serve` runs in the data folder {in_force.node.data_dir}\n"
    assert (done.returncode, done.stderr) == (2, words)


def test_another_users_node_is_left_alone(in_force: Settings, supervised: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError

    supervised()
    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(NotRunning, match=rf"^process {os.getpid()} is another user's: reload as who runs the node$"):
        taking_up.ask(in_force.node.data_dir, seconds=1)


def test_an_answer_to_an_earlier_question_is_not_taken_for_ours(
    in_force: Settings, supervised: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised(begun=3, ended=2)
    told: list[int] = []

    def hang_up(_pid: int, number: int) -> None:
        told.append(number)
        supervised(begun=3, ended=3)

    monkeypatch.setattr(os, "kill", hang_up)
    with pytest.raises(NotRunning, match=r"^the node did not answer within 0.2 seconds: see the log$"):
        taking_up.ask(in_force.node.data_dir, seconds=0.2)
    assert told == [signal.SIGHUP]
    monkeypatch.setattr(os, "kill", lambda *_: supervised(begun=4, ended=4, refused="no"))
    assert taking_up.ask(in_force.node.data_dir, seconds=5)["supervisor"]["refused"] == "no"


def test_a_node_that_ends_meanwhile_is_not_waited_for(
    in_force: Settings, supervised: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised()
    note = in_force.node.data_dir / roles.FOLDER / "supervisor.json"
    monkeypatch.setattr(os, "kill", lambda *_: note.write_text('{"state": "stopped"}'))
    with pytest.raises(NotRunning, match=r"^supervisor ended meanwhile: see the log$"):
        taking_up.ask(in_force.node.data_dir, seconds=5)


def test_who_starts_some_roles_only_goes_by_their_names() -> None:
    assert roles.supervisor() == roles.supervisor(["infer", "web", "dispatch", "receive"]) == "supervisor"
    assert roles.supervisor(["infer"]) == "supervisor-infer"
