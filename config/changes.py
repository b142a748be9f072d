"""What two versions of the settings differ in: in words, and what of it a running node cannot take up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from config.settings import Settings

AT_START: dict[str, tuple[str, ...]] = {
    "node": ("ae_title", "data_dir"),
    "database": ("url", "password_file"),
    "spool": ("dir", "scratch_dir", "bucket", "prefix", "endpoint", "region", "cache_mb", "timeout_seconds"),
    "listener": (
        "bind",
        "port",
        "max_associations",
        "fsync",
        "accept_loss",
        "instance_limit_mb",
        "network_timeout_seconds",
        "pdu_seconds",
        "association_limit_mb",
        "proxy_from",
    ),
    "tls": ("port", "plain"),
    "infer": ("device",),
}
"""What is read when a role starts and then only: sockets, folders, devices, limits of connections that are open."""


def differences(old: Settings, new: Settings) -> list[str]:
    """One line for each peer, route and key that is not as it was."""
    return list(_differences(old, new))


def _differences(old: Settings, new: Settings) -> Iterator[str]:
    for section in type(old).model_fields:
        before, after = getattr(old, section), getattr(new, section)
        if isinstance(after, list):
            yield from _of_list(section, before, after)
        else:
            yield from _of_section(section, before, after)


def _of_list(section: str, before: list[Any], after: list[Any]) -> Iterator[str]:
    was, now = {one.name: one for one in before}, {one.name: one for one in after}
    yield from (f"{section} {name} was removed" for name in was if name not in now)
    for name, one in now.items():
        if name not in was:
            yield f"{section} {name} was added"
        elif keys := [key for key, *_ in _keys(was[name], one)]:
            yield f"{section} {name} was changed: {', '.join(keys)}"
    if list(was) != list(now) and was.keys() == now.keys():
        yield f"the order of [[{section}]] was changed"


def _of_section(section: str, before: BaseModel | None, after: BaseModel | None) -> Iterator[str]:
    if before is None or after is None:
        if before is not after:
            yield f"[{section}] was {'removed' if after is None else 'added'}"
        return
    yield from (f"{section}.{key} = {_shown(now)} (was {_shown(was)})" for key, was, now in _keys(before, after))


def _keys(before: BaseModel, after: BaseModel) -> Iterator[tuple[str, Any, Any]]:
    for key in type(after).model_fields:
        was, now = getattr(before, key), getattr(after, key)
        if was != now:
            yield key, was, now


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)


def held_back(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """The new settings, with the old values of what is read at start; and which keys these are.

    What comes out may contradict itself: `inforce.restored` sees to that. Whether there is TLS at all is not held back:
    peers mean something else without it.
    """
    keys = []
    for section, names in AT_START.items():
        before, after = getattr(old, section), getattr(new, section)
        if before is None or after is None:
            continue
        changed = {key: was for key, was, _ in _keys(before, after) if key in names}
        keys += [f"{section}.{key}" for key in changed]
        if changed:
            new = new.model_copy(update={section: after.model_copy(update=changed)})
    return new, keys
