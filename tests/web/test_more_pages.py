"""Models, settings, conformance and peers, as people with each role see them."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House
from visitors import Person

from config.settings import Settings
from node.network.standin import StandIn
from node.storage import echoes, pulls, roles
from node.storage.echoes import Echo


def test_each_model_says_what_it_finds_and_who_uses_it(viewer: Person) -> None:
    text = viewer.get("/models").text
    assert "chest-findings@1.0.0" in text and "Pneumothorax" in text
    assert re.search(r"route chest, <b>live</b>\s*to pacs", text)
    assert re.search(r"gate of chest-findings@1\.0\.0", text)


def test_a_model_shows_figures_audit_and_card(viewer: Person) -> None:
    text = viewer.get("/models/chest-findings@1.0.0").text
    assert "5-fold cross-validation by patient" in text
    assert "pixel baseline" in text
    assert "No image was scored in the last twelve weeks." in text
    assert "<h3" in text.partition("The whole model card")[2]
    assert text.count("<h1") == 1
    assert viewer.get("/models/nothing@1.0.0").status_code == 404


def test_settings_are_shown_with_what_they_mean(viewer: Person) -> None:
    text = viewer.get("/settings").text
    assert "<code>reserve_mb</code>" in text and "free" in text.partition("<code>reserve_mb</code>")[2][:600]
    assert "<small>default</small>" in text
    assert "[peer]" in text and "pacs" in text


def test_the_conformance_statement_is_read_and_taken_along(viewer: Person) -> None:
    text = viewer.get("/conformance").text
    assert "Structured Report" in text or "SR Storage" in text
    for name, kind in (("html", "text/html"), ("md", "text/markdown")):
        answer = viewer.get(f"/conformance/statement.{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert f'filename="conformance.{name}"' in answer.headers["content-disposition"]


@pytest.mark.parametrize("path", ["/models", "/settings", "/conformance", "/pulls", "/peers", "/peers/pacs"])
def test_nobody_sees_them_without_a_login(stranger: Person, path: str) -> None:
    assert stranger.get(path).status_code == 303


def test_peers_say_when_they_last_answered(house: House, viewer: Person) -> None:
    assert "not asked yet" in viewer.get("/peers").text
    echoes.remember(house.store, Echo("pacs", house.now - 180, True, 0.004))
    assert "last echo 3 minutes ago, answered in 4 ms" in viewer.get("/peers").text


def test_peers_are_asked_by_operators_only(viewer: Person, operator: Person) -> None:
    assert viewer.post("/peers/pacs/echo").status_code == 403
    answer = operator.post("/peers/pacs/echo")
    assert answer.status_code == 303
    assert "nothing listens at 127.0.0.1:11113" in operator.get("/peers").text


def test_without_leave_the_page_shows_the_command(admin: Person, house: House) -> None:
    assert "overread peer add pacs --ae-title" in admin.get("/peers").text
    before = house.settings.file.read_text() if house.settings.file else ""
    assert admin.post("/peers/take-up").status_code == 403
    assert admin.post("/peers", name="new", ae_title="NEW", host="10.1.2.3", port="104").status_code == 403
    assert house.settings.file and house.settings.file.read_text() == before


@pytest.mark.usefixtures("house")
class TestEdits:
    @pytest.fixture
    def web_settings(self) -> str:
        return "[web]\nedit_peers = true\n"

    def test_an_administrator_adds_and_removes_a_peer(self, admin: Person, house: House) -> None:
        assert house.settings.file
        before = house.settings.file.read_text()
        answer = admin.post("/peers", name="new", ae_title="NEW", host="10.1.2.3", port="104")
        assert answer.status_code == 303
        assert "overread reload" in admin.get("/peers").text
        peer = Settings.load(house.settings.file).peer_named("new")
        assert peer is not None and (peer.host, peer.port) == ("10.1.2.3", 104)
        assert admin.post("/peers/new/remove").status_code == 303
        assert house.settings.file.read_text() == before

    def test_what_waits_in_the_file_is_offered_to_be_taken_up(
        self, admin: Person, operator: Person, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "Take up now" not in admin.get("/peers").text
        admin.post("/peers", name="new", ae_title="NEW", host="10.1.2.3", port="104")
        assert "peer new was added" in operator.get("/peers").text
        assert "Take up now" not in admin.get("/peers").text, "nobody runs"
        admin.post("/peers/take-up")
        assert "Not taken up yet: no <code>overread serve</code> runs in the data folder" in admin.get("/peers").text
        told: list[int] = []
        with roles.only_one(house.folder, "supervisor") as say:
            say("ready", begun=0, ended=0)

            def hang_up(_pid: int, number: int) -> None:
                told.append(number)
                say("ready", begun=1, ended=0)

            monkeypatch.setattr("os.kill", hang_up)
            assert "Take up now" in admin.get("/peers").text
            assert "Take up now" not in operator.get("/peers").text
            assert operator.post("/peers/take-up").status_code == 403
            assert told == []
            assert admin.post("/peers/take-up").status_code == 303
            assert told == [signal.SIGHUP]
            assert "goes on by itself" in admin.get("/peers").text
            how = {"refused": "", "said": ["peer new was added"], "at_start": ["listener.port"], "at": house.now}
            say("ready", begun=1, ended=1, **how)
            text = admin.get("/peers").text
            assert "Taken up: peer new was added." in text
            assert "Not taken up: listener.port needs a restart of the node." in text
            say("ready", begun=1, ended=1, refused="no such bundle", said=[], at_start=[], at=house.now)
            assert "Nothing was taken up: no such bundle" in admin.get("/peers").text

    def test_a_file_that_is_not_valid_is_said_and_not_offered(self, admin: Person, house: House) -> None:
        assert house.settings.file
        house.settings.file.write_text("[node]\nno_such_key = 1\n")
        text = admin.get("/peers").text
        assert "The settings file is not valid" in text and "no_such_key" in text
        assert "Take up now" not in text

    def test_what_is_wrong_is_said_and_nothing_is_written(self, admin: Person, house: House) -> None:
        assert house.settings.file
        before = house.settings.file.read_text()
        answer = admin.post("/peers", name="new", ae_title="A TITLE THAT IS TOO LONG", host="10.1.2.3", port="x")
        assert answer.status_code == 422
        assert "ae_title" in answer.text and 'value="A TITLE THAT IS TOO LONG"' in answer.text
        assert house.settings.file.read_text() == before

    def test_others_may_not(self, operator: Person) -> None:
        assert operator.post("/peers", name="new", ae_title="NEW").status_code == 403
        assert operator.post("/peers/pacs/remove").status_code == 403


class TestTrial:
    @pytest.fixture
    def pacs(self, tmp_path: Path) -> Iterator[StandIn]:
        scp = StandIn(tmp_path / "pacs", ae_title="PACS")
        scp.start()
        yield scp
        scp.stop()

    @pytest.fixture
    def settings(self, settings: Settings, pacs: StandIn) -> Settings:
        peers = [settings.peer[0].model_copy(update={"port": pacs.port})]
        deliver = settings.deliver.model_copy(update={"timeout_seconds": 2.0})
        return settings.model_copy(update={"peer": peers, "deliver": deliver})

    def test_the_steps_of_a_test_appear(self, operator: Person, pacs: StandIn) -> None:
        assert "No test was made" in operator.get("/peers/pacs").text
        assert operator.post("/peers/pacs/test").status_code == 303
        operator.post("/peers/pacs/test/stop")
        text = self.ended(operator)
        assert ">connect<" in text or "echo" in text
        assert "NOT PROVEN" in text  # the node does not run: nothing can be sent in

    def ended(self, person: Person) -> str:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            text = person.get("/peers/pacs").text
            if "PROVEN" in text:
                return text
            time.sleep(0.2)
        raise AssertionError(f"the test never ends: {text}")


def test_without_a_pull_the_page_says_how_to_begin_one(viewer: Person) -> None:
    assert "Nothing was pulled yet." in viewer.get("/pulls").text
    assert viewer.get("/api/pulls").json() == []


def test_pulls_say_how_far_they_are_and_what_they_cost(house: House, viewer: Person) -> None:
    one = pulls.begin(house.store, "pacs", {"any": []}, {}, route="chest", mode="shadow", now=house.now)
    pulls.found(house.store, one.id, {"1.2.1": 1, "1.2.2": 1, "1.2.3": 1}, missing=["A9"], now=house.now)
    for _ in range(2):
        study = pulls.claim(house.store, one.id, now=house.now)
        assert study
        house.now += 60
        spent = pulls.Spent(2_000_000, 1.5)
        pulls.done(house.store, study, taken=2, expected=2, spent=spent, now=house.now)
    text = viewer.get("/pulls").text
    assert "Pull 1 from pacs" in text and 'max="3" value="2"' in text and "for route chest, shadow" in text
    assert "2 of 3 studies brought; 0 read, 0 waiting; " in text
    assert "cost: 4 images, 4.0 MB received in 3.0 s; 0 jobs in 0.0 s of a worker" in text
    assert "1 name is not there" in text
    (told,) = viewer.get("/api/pulls").json()
    assert (told["number"], told["state"], told["stands"]["to_bring"]) == (1, "OPEN", 1)
    assert (told["cost"]["received"], told["cost"]["transfer_seconds"]) == (4_000_000, 3.0)
