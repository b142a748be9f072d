"""What watches the node: which values are allowed, and what is said of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings, SettingsFileError


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def run(text: str) -> Path:
        path = tmp_path / "overread.toml"
        path.write_text(text)
        return path

    return run


MAIL = 'mail = { host = "mail.hospital", sender = "overread@hospital", to = ["pacs@hospital"]'


def test_without_settings_there_is_a_canary_and_nobody_is_told(write: Callable[[str], Path]) -> None:
    settings = Settings.load(write(""))
    assert settings.canary.every_hours == 1
    assert (settings.alarm.webhook, settings.alarm.mail, settings.audit.sinks) == (None, None, ())


def test_settings_remember_their_file(write: Callable[[str], Path]) -> None:
    file = write("")
    assert Settings.load(file).file == file
    assert Settings().file is None


def test_files_are_taken_from_the_settings_own_folder(write: Callable[[str], Path], tmp_path: Path) -> None:
    text = '[metrics]\ntoken_file = "m"\n[alarm]\n' + MAIL + ', user = "me", password_file = "p" }\n'
    text += '[audit]\nfile = "a.xml"\nsyslog = "tls://audit.hospital"\nauthorities = "ca.crt"\n'
    settings = Settings.load(write(text))
    assert settings.metrics.token_file == tmp_path / "m"
    assert settings.alarm.mail and settings.alarm.mail.password_file == tmp_path / "p"
    assert (settings.audit.file, settings.audit.authorities) == (tmp_path / "a.xml", tmp_path / "ca.crt")
    assert settings.audit.sinks == ("file", "syslog")
    assert settings.audit.address == ("audit.hospital", 6514)


def test_a_webhook_may_have_a_query_as_teams_asks_for(write: Callable[[str], Path]) -> None:
    url = "https://prod.logic.azure.com/workflows/1?api-version=2016&sig=x"
    assert Settings.load(write(f'[alarm]\nwebhook = "{url}"\n')).alarm.webhook == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[alarm]\nwebhook = "ntfy.hospital"', "a webhook is a http or https url"),
        ('[alarm]\nwebhook = "https://me:secret@ntfy.hospital"', "a webhook is a http or https url"),
        ('[alarm]\ntoken_file = "t"', "token_file: only for a webhook"),
        ("[alarm]\n" + MAIL.replace("pacs@hospital", "pacs") + " }", "an address is one mailbox"),
        ("[alarm]\n" + MAIL.replace("pacs@hospital", "a@b\\r\\nBcc: c@d") + " }", "an address is one mailbox"),
        ("[alarm]\n" + MAIL + ', user = "me" }', "user and password_file belong together"),
        ("[alarm]\n" + MAIL + ', tls = "none", user = "me", password_file = "p" }', "would cross the network in plain"),
        ('[audit]\nsyslog = "udp://audit.hospital"', "syslog is a host and a port that speak TLS"),
        ('[audit]\nauthorities = "ca.crt"', "authorities: only with syslog"),
        ('[audit]\nsyslog = "tls://a"\ncertificate = "c"', "certificate and key belong together"),
        ("[canary]\nevery_hours = -1", "greater than or equal to 0"),
    ],
)
def test_a_refusal_says_what_is_allowed(write: Callable[[str], Path], text: str, said: str) -> None:
    with pytest.raises(SettingsFileError) as refused:
        Settings.load(write(text + "\n"))
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
