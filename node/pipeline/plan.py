"""Settings held against bundles: which bundle each route means, and whether it may go live.

What the settings file alone cannot know; `overread check` and the dispatch role ask here.
"""

from __future__ import annotations

from config.settings import Route, Settings
from models.bundle import BundleError
from models.registry import BUNDLES, Registry
from node.errors import SettingsError
from node.pipeline.route import Planned, check_keywords


def registry(settings: Settings) -> Registry:
    """The bundles of the settings' own folders, then those that ship."""
    return Registry([*settings.node.bundle_dirs, BUNDLES])


def plan(settings: Settings) -> list[Planned]:
    """Find each route's bundle and see that it may do what the route asks.

    Raises:
        SettingsError: an unknown attribute or bundle, a gate that would be loosened, or a live route to a bundle that
            was not audited or failed its audit; the message shows the line to add.
    """
    check_keywords(settings.route)
    bundles = registry(settings)
    return [_planned(i, route, bundles) for i, route in enumerate(settings.route)]


def _planned(i: int, route: Route, bundles: Registry) -> Planned:
    try:
        bundle = bundles.find(route.bundle)
        if bundle.spec.gate:
            bundles.find(bundle.spec.gate.bundle)
    except BundleError as error:
        raise SettingsError(f"route[{i}].bundle = {route.bundle!r}: {error}") from None
    gate = bundle.spec.gate
    if route.gate and (gate is None or route.gate.at_least < gate.at_least):
        own = f"asks for {gate.at_least}" if gate else "has no gate"
        raise SettingsError(
            f"route[{i}].gate.at_least = {route.gate.at_least}: may only tighten the gate, and {bundle.ref} {own}"
        )
    needed = {"fail": "accept_failed_audit", "absent": "accept_unaudited"}.get(bundle.audit_verdict)
    if route.mode == "live" and needed and not getattr(route, needed):
        what = "failed its audit" if needed == "accept_failed_audit" else "was not audited"
        raise SettingsError(
            f'route[{i}].bundle = {route.bundle!r}: {bundle.ref} {what}. Use mode = "shadow", or add the line '
            f"{needed} = true to this route; every result will then say so"
        )
    return Planned(route, bundle.ref)
