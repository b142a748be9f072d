from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle, BundleError
from models.registry import Registry

Writer = Callable[..., Path]
GATE: dict[str, Any] = {"bundle": "chest-abdomen", "accept": ["chest"], "at_least": 0.9}


def test_a_name_alone_is_the_newest_version_by_number(bundle_folder: Writer, tmp_path: Path) -> None:
    for version in ("1.2.0", "1.10.0", "1.9.0"):
        bundle_folder(root=tmp_path, version=version)
    registry = Registry([tmp_path])
    assert registry.find("heart").ref == "heart@1.10.0"
    assert registry.find("heart@1.9.0").ref == "heart@1.9.0"
    assert [b.spec.version for b in registry.all()] == ["1.2.0", "1.9.0", "1.10.0"]


@pytest.mark.parametrize("ref", ["lung", "heart@2.0.0", "hear", ""])
def test_what_is_not_there_is_answered_with_what_is(bundle_folder: Writer, tmp_path: Path, ref: str) -> None:
    bundle_folder(root=tmp_path)
    with pytest.raises(BundleError, match=r"have: heart@1\.2\.0"):
        Registry([tmp_path]).find(ref)


def test_an_empty_or_missing_folder_has_none(tmp_path: Path) -> None:
    registry = Registry([tmp_path, tmp_path / "nowhere"])
    assert registry.all() == []
    with pytest.raises(BundleError, match="have: none"):
        registry.find("heart")


def test_only_the_newest_bundles_with_a_gate_are_findings(bundle_folder: Writer, tmp_path: Path) -> None:
    bundle_folder(root=tmp_path, version="1.0.0", gate=GATE)
    bundle_folder(root=tmp_path, version="2.0.0", gate=GATE)
    bundle_folder(root=tmp_path, name="chest-abdomen")
    assert [b.ref for b in Registry([tmp_path]).findings()] == ["heart@2.0.0"]


def test_a_bundle_is_verified_once(bundle_folder: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle_folder(root=tmp_path)
    registry, real, loads = Registry([tmp_path]), Bundle.load, []
    monkeypatch.setattr(Bundle, "load", lambda path: loads.append(path) or real(path))
    assert registry.find("heart") is registry.find("heart@1.2.0") is registry.all()[0]
    assert len(loads) == 1


def test_different_bundles_of_one_name_are_an_error_and_equal_ones_are_not(
    bundle_folder: Writer, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        bundle_folder(root=tmp_path / folder)
    assert Registry([tmp_path / "a", tmp_path / "b"]).find("heart").path.parent.name == "a"
    bundle_folder(root=tmp_path / "c", family="another")
    with pytest.raises(BundleError, match="different bundles"):
        Registry([tmp_path / "a", tmp_path / "c"]).find("heart")


def test_a_damaged_bundle_does_not_hide_a_sound_one(bundle_folder: Writer, tmp_path: Path) -> None:
    bundle_folder(root=tmp_path)
    (bundle_folder(root=tmp_path, name="broken") / "model.keras").write_text("other")
    registry = Registry([tmp_path])
    assert registry.find("heart").ref == "heart@1.2.0"
    with pytest.raises(BundleError, match="broken"):
        registry.all()
