"""What was put in force is what roles get, whatever the settings file says by then."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config import inforce
from config.inforce import InForce
from config.settings import EXAMPLE, Settings

MORE = """
[tls]
certificate = "a.crt"
[[peer]]
name = "web"
url = "https://pacs.hospital/dicom-web"
token_file = "token"
[[peer]]
name = "ct"
ae_title = "CT"
networks = ["10.1.2.0/24"]
may = ["send"]
settle = { quiet_seconds = 120 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "overread.toml"
    path.write_text(EXAMPLE.read_text().replace("#released_quiet_seconds = 3", "released_quiet_seconds = 9") + MORE)
    return path


def test_what_is_restored_is_what_was_put_in_force(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_DELIVER__TIMEOUT_SECONDS", "7")
    settings = Settings.load(file)
    kept = file.with_name("kept.json")
    inforce.write(settings, kept, at=12.5)
    assert inforce.read(kept) == (settings, 12.5)
    assert kept.stat().st_mode & 0o077 == 0
    own = inforce.read(kept)[0].settle_for("ct")
    assert (own.quiet_seconds, own.released_quiet_seconds) == (120, 9)


def test_what_contradicts_itself_is_not_restored(file: Path) -> None:
    values = inforce.dumped(Settings.load(file)) | {"tls": {"port": 11112, "plain": True}}
    with pytest.raises(ValidationError, match=r"tls\.port = 11112 is listener\.port too"):
        inforce.restored(values, file)


def test_a_role_sees_once_that_others_are_in_force(file: Path) -> None:
    kept = file.with_name("kept.json")
    settings = Settings.load(file)
    inforce.write(settings, kept, at=1)
    mine = InForce(kept)
    assert (mine.at, mine.changed()) == (1, False)
    file.write_text("not TOML")
    assert not mine.changed()
    inforce.write(settings.model_copy(update={"peer": [], "route": []}), kept, at=2)
    assert mine.changed() and (mine.at, mine.settings.peer) == (2, [])
    assert not mine.changed()
    kept.unlink()
    assert not mine.changed() and mine.at == 2


def test_a_role_that_is_started_by_hand_stays_with_its_file(file: Path) -> None:
    mine = InForce(file)
    file.write_text(EXAMPLE.read_text())
    assert not mine.changed() and mine.settings.tls


@pytest.mark.parametrize("text", ["{}", "{}[[peer\nname", "{}\n[node]\n", "{}x = 'a\n[[peer]]\n"])
def test_the_data_folder_is_found_in_a_file_that_is_not_valid(tmp_path: Path, text: str) -> None:
    file = tmp_path / "overread.toml"
    file.write_text(text.format('[node]\ndata_dir = "there"\n'))
    assert inforce.data_dir_of(file) == tmp_path / "there"


def test_the_data_folder_is_where_the_settings_would_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "overread.toml"
    file.write_text("node = 1\n")
    assert inforce.data_dir_of(file) == tmp_path / "overread-data"
    monkeypatch.setenv("OVERREAD_NODE__DATA_DIR", "/elsewhere")
    assert inforce.data_dir_of(file) == Path("/elsewhere")
