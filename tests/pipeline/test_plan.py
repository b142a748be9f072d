from __future__ import annotations

from typing import Any

import models_made
import pytest
from house import SETTINGS

from config.settings import Settings
from models.bundle import Bundle, BundleError
from node.errors import SettingsError
from node.pipeline import plan as planning


class Known:
    """A registry of the bundles that a test names."""

    def __init__(self, *bundles: Bundle) -> None:
        self._bundles = {b.spec.name: b for b in bundles}

    def find(self, ref: str) -> Bundle:
        try:
            return self._bundles[ref]
        except KeyError:
            raise BundleError(f"no bundle {ref} (have: {', '.join(self._bundles)})") from None


def plan(monkeypatch: pytest.MonkeyPatch, *bundles: Bundle, **route: Any) -> list[planning.Planned]:
    monkeypatch.setattr(planning, "registry", lambda _settings: Known(*bundles))
    return planning.plan(Settings(**(SETTINGS | {"route": [SETTINGS["route"][0] | route]})))


GATE = {"bundle": "gate", "accept": ["chest"], "at_least": 0.9}


def test_a_route_means_the_newest_version(monkeypatch: pytest.MonkeyPatch) -> None:
    (planned,) = plan(monkeypatch, models_made.bundle())
    assert planned.bundle == "cardiomegaly@1.0.0"


def test_an_unknown_bundle_is_named_with_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"route\[0\]\.bundle = 'nih15'.*have: cardiomegaly"):
        plan(monkeypatch, models_made.bundle(), bundle="nih15")


@pytest.mark.parametrize(("verdict", "line"), [("fail", "accept_failed_audit"), ("absent", "accept_unaudited")])
def test_a_bad_audit_does_not_go_live_by_accident(monkeypatch: pytest.MonkeyPatch, verdict: str, line: str) -> None:
    bad = models_made.bundle(audit=verdict)
    with pytest.raises(SettingsError, match=f"{line} = true"):
        plan(monkeypatch, bad)
    assert plan(monkeypatch, bad, mode="shadow")
    assert plan(monkeypatch, bad, **{line: True})


def test_a_gate_may_only_be_tightened(monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = models_made.bundle(gate=GATE), models_made.bundle(name="gate")
    with pytest.raises(SettingsError, match="may only tighten"):
        plan(monkeypatch, *bundles, gate={"at_least": 0.5})
    assert plan(monkeypatch, *bundles, gate={"at_least": 0.95})


def test_a_missing_gate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no bundle gate"):
        plan(monkeypatch, models_made.bundle(gate=GATE))
