from __future__ import annotations

from config.settings import Settings
from node.admin.effective import Part, effective


def parts(values: dict[str, object]) -> dict[tuple[str, str], Part]:
    return {(p.section, p.name): p for p in effective(Settings.model_validate(values))}


def test_what_is_given_is_told_from_what_is_default() -> None:
    said = {s.key: s for s in parts({"listener": {"port": 104}})["listener", ""].settings}
    assert (said["port"].value, said["port"].given) == ("104", True)
    assert (said["bind"].value, said["bind"].given) == ('"127.0.0.1"', False)
    assert "port" in said["port"].explanation.lower()


def test_each_peer_is_a_part_of_its_own() -> None:
    two = [{"name": n, "ae_title": n.upper(), "host": "127.0.0.1", "port": 104} for n in ("one", "two")]
    assert {name for section, name in parts({"peer": two}) if section == "peer"} == {"one", "two"}


def test_no_section_that_is_not_there() -> None:
    assert ("tls", "") not in parts({})


def test_a_secret_in_a_url_is_not_shown() -> None:
    peer = {"name": "web", "url": "https://pacs.example/dicom-web", "password_file": "secret", "user": "u"}
    text = str(effective(Settings.model_validate({"peer": [peer]})))
    assert "secret" in text  # the file's name
    from node.admin.effective import _written

    assert _written("https://me:word@pacs.example/") == '"https://...@pacs.example/"'
