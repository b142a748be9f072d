"""People are told of alarms by webhook and mail, by real servers here; what nobody took is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email import message_from_string
from email.policy import default
from pathlib import Path
from time import time
from typing import Any

import pytest
from certificates import Authority
from databases_made import place
from told_here import Hook, Smtp, closed_port, serving

from config.settings import Settings
from node.admin.alarms import Watchman, at_a_glance, tell_a_test
from node.errors import PeerError
from node.network import telling
from node.storage import alarms, schema, studies, waits
from node.storage.store import Store

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(place(tmp_path), tmp_path / "spool")
    made.open()
    made.spool.open()
    yield made
    made.close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


@pytest.fixture
def smtp() -> Iterator[Smtp]:
    with serving(Smtp()) as server:
        yield server


Make = Callable[..., Settings]


@pytest.fixture
def settings(tmp_path: Path) -> Make:
    """A node of which nothing runs, so that there are three alarms; the mail is `mail` or none."""

    def make(**alarm: Any) -> Settings:
        said = {"after_seconds": 0} | alarm
        return Settings(node={"data_dir": tmp_path}, listener={"reserve_mb": 0}, alarm=said)  # type: ignore[arg-type]

    return make


def mail(port: int, **more: Any) -> dict[str, Any]:
    people = {"sender": "overread@hospital", "to": ["a@hospital", "b@hospital"]}
    return {"host": "127.0.0.1", "port": port, "tls": "none"} | people | more


def watch(store: Store, settings: Settings, now: list[float]) -> Watchman:
    return Watchman(store, store.spool, settings=settings, clock=lambda: now[0])


def test_a_webhook_gets_each_alarm_as_json_with_a_text(store: Store, settings: Make, hook: Hook) -> None:
    watch(store, settings(webhook=hook.url), [NOW]).step()
    assert {body["key"] for _, _, body in hook.got} == {"role.receive", "role.infer", "role.dispatch"}
    path, headers, body = next(one for one in hook.got if one[2]["key"] == "role.infer")
    assert (path, headers["Content-Type"]) == ("/hook?sig=secret", "application/json")
    assert body == {
        "event": "raised",
        "node": "OVERREAD",
        "key": "role.infer",
        "severity": "critical",
        "alarm": "the role infer is not running",
        "remedy": "",
        "since": "2027-01-15T08:00:00Z",
        "text": "Overread OVERREAD (critical): the role infer is not running (since 2027-01-15T08:00:00Z)",
    }


def test_a_token_is_shown_and_its_file_must_be_nobody_elses(
    store: Store, settings: Make, hook: Hook, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("canary\n")
    file.chmod(0o644)
    said = settings(webhook=hook.url, token_file=file)
    assert "others can read this secret" in tell_a_test(said, now=NOW)["webhook"]
    assert hook.got == []
    file.chmod(0o600)
    assert tell_a_test(said, now=NOW) == {"webhook": ""}
    assert hook.got[0][1]["Authorization"] == "Bearer canary"
    assert hook.got[0][2]["event"] == "test"


def test_a_mail_goes_to_everybody(store: Store, settings: Make, smtp: Smtp) -> None:
    watch(store, settings(mail=mail(smtp.port)), [NOW]).step()
    assert len(smtp.got) == 3
    sender, to, text = smtp.got[0]
    assert (sender, to) == ("<overread@hospital>", ["<a@hospital>", "<b@hospital>"])
    message = message_from_string(text, policy=default)
    assert message["Subject"].startswith("[Overread OVERREAD] raised: the role ")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().startswith("Overread OVERREAD (critical): the role ")


def test_what_was_not_taken_is_told_when_it_can_be(store: Store, settings: Make, hook: Hook) -> None:
    now = [NOW]
    watchman = watch(store, settings(webhook=hook.url), now)
    hook.status = 503
    watchman.step()
    tries = len(hook.got)
    assert {reason for _, _, reason in alarms.untold(store)} == {
        "the webhook at 127.0.0.1 answered 503 Service Unavailable"
    }
    now[0] += 30
    watchman.step()
    assert len(hook.got) == tries, "it is tried again after a minute"
    hook.status = 200
    now[0] += 60
    watchman.step()
    assert len(hook.got) == 2 * tries
    assert alarms.untold(store) == []


def test_what_nobody_takes_for_a_week_is_let_go(store: Store, settings: Make) -> None:
    now = [NOW]
    watchman = watch(store, settings(webhook=f"http://127.0.0.1:{closed_port()}/"), now)
    watchman.step()
    assert len(alarms.untold(store)) == 3
    now[0] += 8 * 86400
    watchman.tell(now[0])
    assert alarms.untold(store) == []


def test_no_error_holds_the_url_or_what_a_server_says(settings: Make, hook: Hook, smtp: Smtp) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/services/secret"
    with pytest.raises(PeerError) as failed:
        telling.post(dead, {})
    assert str(failed.value) == "the webhook at 127.0.0.1 cannot be reached: Connection refused"
    smtp.refuses = True
    rules = settings(mail=mail(smtp.port)).alarm.mail
    assert rules is not None
    with pytest.raises(PeerError) as failed:
        telling.mail(rules, subject="x", text="y", now=NOW)
    assert str(failed.value) == f"the mail server 127.0.0.1:{smtp.port} did not take it: SMTPRecipientsRefused"


def test_a_server_without_starttls_gets_no_password(settings: Make, smtp: Smtp, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("canary\n")
    file.chmod(0o600)
    said = settings(mail=mail(smtp.port, tls="starttls", user="me", password_file=file))
    assert "did not take it: SMTPNotSupportedError" in tell_a_test(said, now=NOW)["mail"]
    assert smtp.got == []


def test_nobody_is_told_where_nobody_is_named(store: Store, settings: Make) -> None:
    assert watch(store, settings(), [NOW]).step() == 0
    assert len(alarms.standing(store)) == 3
    assert tell_a_test(settings(), now=NOW) == {}


def test_a_line_break_in_an_alarm_makes_no_header(settings: Make, smtp: Smtp) -> None:
    rules = settings(mail=mail(smtp.port)).alarm.mail
    assert rules is not None
    telling.mail(rules, subject="x\r\nBcc: c@d", text="y", now=NOW)
    assert "\nBcc:" not in smtp.got[0][2]


def found(store: Store, settings: Settings, now: float = NOW) -> dict[str, str]:
    said = at_a_glance(settings, store, store.spool, studies.counts(store), now=now)
    return {alarm.key: alarm.sentence for alarm in said if not alarm.key.startswith("role.")}


def test_a_file_that_was_changed_is_an_alarm_until_it_is_taken_up(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "overread.toml"
    file.write_text("[listener]\nreserve_mb = 0\n")
    running = Settings.load(file)
    assert found(store, running) == {}
    file.write_text("[listener]\nreserve_mb = 0\n[log]\nlevel = 'DEBUG'\n")
    assert found(store, running)["settings.file"].startswith("the settings file has changed since the node took it up")
    file.write_text("[lisener]\n")
    assert "the settings file cannot be used any more" in found(store, running)["settings.file"]


def test_certificates_clock_and_disk_are_alarms(store: Store, tmp_path: Path, settings: Make) -> None:
    files = Authority(tmp_path / "ca").files("node", days=20)
    tls = {"certificate": files.certificate, "key": files.key, "authorities": files.authorities}
    said = Settings(node={"data_dir": tmp_path}, listener={"reserve_mb": 10**9}, tls=tls)  # type: ignore[arg-type]
    waits.remember_jump(store, 3600.0, now=time())
    wrong = found(store, said, time())
    assert "ends in 20 days" in wrong["tls.certificate"]
    began = time()
    for later in (0, 3600):
        watch(store, said, [began + later]).look(began + later)
    assert {one.since for one in alarms.standing(store) if one.key == "tls.certificate"} == {began}
    assert "the clock was set by +3600 s" in wrong["clock.set"]
    assert "below listener.reserve_mb" in wrong["disk.reserve"]
    files.certificate.unlink()
    assert "cannot be read" in found(store, said, time())["tls.certificate"]


def test_alarms_are_forgotten_in_their_time(store: Store, settings: Make) -> None:
    watch(store, settings(), [NOW]).step()
    with store.write() as connection:
        connection.execute(schema.alarm.update().values(over_at=NOW))
    assert alarms.purge(store, before=NOW + 1) == 3
