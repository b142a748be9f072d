from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import SettingsError
from node.network.secret import read_secret


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "secret"
    made.write_text("word\n")
    made.chmod(0o600)
    return made


def test_one_line_is_read(file: Path) -> None:
    assert read_secret(file) == "word"


def test_what_others_can_read_is_no_secret(file: Path) -> None:
    file.chmod(0o640)
    with pytest.raises(SettingsError, match=f"others can read this secret: chmod 600 {file}"):
        read_secret(file)


def test_what_systemd_hands_over_is_one_whatever_its_mode_shows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert read_secret(file) == "word"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent.parent))
    with pytest.raises(SettingsError, match="others can read"):
        read_secret(file)


@pytest.mark.parametrize("text", ["", "two\nlines", "a\x07bell"])
def test_it_is_one_line_of_printable_characters(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match="one line of printable characters") as caught:
        read_secret(file)
    assert not text or text not in str(caught.value)
