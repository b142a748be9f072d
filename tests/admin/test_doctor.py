"""What `overread check` says of certificates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority

from config.settings import TLS, Peer, Settings
from node.admin.doctor_network import certificates, reports
from node.admin.said import Said


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def examined(authority: Authority) -> Callable[..., list[Said]]:
    def examine(days: float = 365, *, mode: int = 0o600) -> list[Said]:
        files = authority.files("node", days=days)
        files.key.chmod(mode)
        tls = TLS(certificate=files.certificate, key=files.key, authorities=files.authorities)
        return list(certificates(Settings(tls=tls)))

    return examine


def test_a_certificate_that_lasts_is_shown_with_the_fingerprint_that_peers_may_want(
    examined: Callable[..., list[Said]],
) -> None:
    certificate, authorities = examined()
    assert (certificate.verdict, authorities.verdict) == ("ok", "ok")
    assert "is valid for 365 more days, fingerprint " in certificate.text


def test_a_certificate_that_ends_soon_is_a_warning_and_one_that_has_ended_a_failure(
    examined: Callable[..., list[Said]],
) -> None:
    soon, _ = examined(20)
    assert soon.verdict == "warn" and "taken up without a restart" in soon.text
    over, _ = examined(-3)
    assert over.verdict == "fail" and "expired 3 days ago" in over.text


def test_a_key_that_others_may_read_is_a_warning(examined: Callable[..., list[Said]]) -> None:
    assert examined(mode=0o644)[-1].verdict == "warn"


def test_a_file_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    (said,) = certificates(Settings(tls=TLS(certificate=tmp_path / "none.crt")))
    assert said.verdict == "fail" and "none.crt: No such file" in said.text


def test_plain_on_a_network_is_a_warning() -> None:
    assert not list(certificates(Settings()))
    (said,) = certificates(Settings(listener={"bind": "0.0.0.0"}))  # type: ignore[arg-type]
    assert said.verdict == "warn"


def test_a_peer_whose_reports_could_not_be_taken_is_warned_about() -> None:
    named = {"name": "pacs", "ae_title": "PACS", "host": "pacs.example", "port": 104, "may": ["receive"]}
    (said,) = reports(Peer.model_validate(named))
    assert said.verdict == "warn" and "networks" in said.text
    assert not list(reports(Peer.model_validate(named | {"networks": ["10.1.2.3"]})))
    assert not list(reports(Peer.model_validate(named | {"proof": "find"})))
    assert not list(reports(Peer.model_validate(named | {"host": "10.1.2.3"})))
