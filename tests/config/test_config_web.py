"""The dashboard's settings: what is reached from elsewhere is encrypted, and known by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings, SettingsFileError


def load(tmp_path: Path, lines: str) -> Settings:
    file = tmp_path / "overread.toml"
    file.write_text(f"[web]\n{lines}\n")
    return Settings.load(file)


@pytest.mark.parametrize(
    ("lines", "address", "encrypted"),
    [
        ("", "http://127.0.0.1:8090", False),
        ('bind = "::1"', "http://[::1]:8090", False),
        ('certificate = "a"\nkey = "b"', "https://127.0.0.1:8090", True),
        ('public_url = "https://overread.hospital/"', "https://overread.hospital", True),
        ('bind = "0.0.0.0"\npublic_url = "http://overread.hospital:8090"', "http://overread.hospital:8090", False),
    ],
)
def test_the_address_is_what_a_person_types(tmp_path: Path, lines: str, address: str, encrypted: bool) -> None:
    web = load(tmp_path, lines).web
    assert (web.address, web.encrypted) == (address, encrypted)


def test_files_are_found_beside_the_settings(tmp_path: Path) -> None:
    web = load(tmp_path, 'certificate = "a"\nkey = "b"').web
    assert (web.certificate, web.key) == (tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ('bind = "0.0.0.0"', "would send passwords and names of patients in plain"),
        ('certificate = "a"', "certificate and key belong together"),
        ('public_url = "overread.hospital"', "public_url is a scheme, a host and perhaps a port"),
        ('public_url = "https://overread.hospital/node"', "public_url is a scheme, a host and perhaps a port"),
        ('public_url = "https://ada:secret@overread.hospital"', "public_url is a scheme, a host and perhaps a port"),
        ("session_hours = 0", "session_hours"),
        ('proxies = ["everybody"]', "a network is an address or a range"),
    ],
)
def test_what_is_not_safe_is_refused_with_what_to_add(tmp_path: Path, lines: str, why: str) -> None:
    with pytest.raises(SettingsFileError, match=why):
        load(tmp_path, lines)
