"""The hosts that share a database, as an administrator sees them: what runs where, and what is wrong with that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from node.admin.wording import plural
from node.storage import hosts
from node.storage.alarms import Alarm
from node.storage.hosts import READY, Host
from node.storage.store import Store

NEEDED = ("receive", "infer", "dispatch")
"""Of each at least one host runs it, or studies stay where they are."""


def table(store: Store) -> list[dict[str, Any]]:
    """Plain values, one row for each host; nothing where there is only this one."""
    known = hosts.known(store)
    usual = _usual(known)
    return [
        {
            "id": host.id,
            "name": host.name,
            "here": host.id == store.host,
            "seen": host.is_here,
            "seen_ago": round(host.seen_ago, 1),
            "seen_at": host.seen_at,
            "started_at": host.started_at,
            "version": host.version,
            "roles": dict(sorted(host.roles.items())),
            "differs": host.is_here and host.settings != usual,
            "reason": host.reason,
        }
        for host in known
    ]


def _usual(known: list[Host]) -> str:
    """The settings that most hosts go by that are seen now."""
    counted = Counter(host.settings for host in known if host.is_here).most_common(1)
    return counted[0][0] if counted else ""


def alarms(store: Store) -> Iterator[Alarm]:
    """What is wrong among hosts."""
    known = hosts.known(store)
    for role in NEEDED:
        if not any(host.runs(role) for host in known):
            yield Alarm(f"role.{role}", "critical", f"no host runs the role {role}", f"`overread serve --roles {role}`")
    for host in known:
        where = f"{host.name} ({host.id})"
        if not host.is_here:
            text = f"the host {where} was last seen {plural(round(host.seen_ago / 60), 'minute')} ago"
            remedy = f"it {host.reason or 'had ' + ', '.join(sorted(host.roles))}; what it held is given to others"
            yield Alarm(f"host.{host.id}.gone", "warning", text, remedy, host.seen_at)
            continue
        down = {name: state for name, state in host.roles.items() if state != READY}
        for name, state in sorted(down.items()):
            yield Alarm(f"host.{host.id}.{name}", "warning", f"the role {name} on the host {where} is {state}")
        if host.reason:
            yield Alarm(f"host.{host.id}.wrong", "warning", f"the host {where} is not in order", host.reason)
    yield from _differ(known)


def _differ(known: list[Host]) -> Iterator[Alarm]:
    by_settings: Mapping[str, list[str]] = {}
    for host in known:
        if host.is_here:
            by_settings = {**by_settings, host.settings: [*by_settings.get(host.settings, ()), host.name]}
    if len(by_settings) > 1:
        groups = " | ".join(", ".join(names) for names in by_settings.values())
        text = f"hosts go by different peers, routes or rules, and nothing is purged meanwhile: {groups}"
        yield Alarm("hosts.differ", "warning", text, "give all the same settings file, and `overread reload` each")
