"""`overread check` of the pool that networks run on: does it answer, what has it, does it ask for a token."""

from __future__ import annotations

import stat
from collections.abc import Generator
from pathlib import Path

from config.settings import Settings
from models.engine import EngineAway
from models.pool.link import Pool
from node.admin.said import Said


def pool_is_there(settings: Settings, pool: Pool) -> Generator[Said, None, bool]:
    """What there is to say of the cluster; returns whether it answers."""
    address = settings.ray.address
    try:
        have = pool.resources()
    except EngineAway as error:
        yield Said("ray", "fail", f"{error}; is the head up, and is this host one of its nodes (`ray start`)?")
        return False
    text = f"{address} has {have['hosts']} hosts, {have['cpus']:g} CPUs and {have['gpus']:g} GPUs"
    if settings.ray.gpus and not have["gpus"]:
        yield Said("ray", "fail", f"{text}, and ray.gpus = {settings.ray.gpus:g}: no replica could start")
        return False
    yield Said("ray", "ok", text)
    yield _closed(address, pool)
    if settings.ray.token_file:
        yield _secret(settings.ray.token_file)
    return True


def _closed(address: str, pool: Pool) -> Said:
    if pool.is_open():
        text = f"{address} takes whoever comes: start it with RAY_AUTH_MODE=token, or anybody there runs code on it"
        return Said("ray token", "fail", text)
    return Said("ray token", "ok", f"{address} refuses who has no token")


def _secret(file: Path) -> Said:
    if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return Said("ray token", "warn", f"{file} can be read by others: chmod 600 {file}")
    return Said("ray token", "ok", f"{file} is only its owner's to read")
