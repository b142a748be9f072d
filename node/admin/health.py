"""Does the node live, and can it take a study now: asked every few seconds, so it is quick and loads nothing heavy.

Alive: the supervisor's roles are there and the database answers. Ready: every role says so, the disk holds its reserve,
and the listener takes an association's first bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import shutil
import socket
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.settings import Settings, SettingsFileError, find_file
from node.errors import SettingsError
from node.storage import roles

SECONDS = 2.0
"""For each question: who asks for health does not wait long himself."""


@dataclass(frozen=True)
class Health:
    """What was looked at, each with "" or with what is wrong."""

    checks: dict[str, str]

    @property
    def well(self) -> bool:
        return not any(self.checks.values())


def alive(settings: Settings, wanted: Sequence[str] = ()) -> Health:
    """Whether something would come of restarting these roles (none named: those of this host): one is gone, or the
    database's file does not answer."""
    running = _roles(settings, wanted)
    gone = sorted(name for name, said in running.items() if not said["running"])
    wrong = f"not running: {', '.join(gone)}" if gone else ""
    # A server that is away is nothing that restarting its clients would mend
    return Health({"roles": wrong} | ({} if settings.is_shared else {"database": _database(settings)}))


def ready(settings: Settings, wanted: Sequence[str] = ()) -> Health:
    """Whether a study that is sent now is taken, read and answered, as far as these roles (none named: those of this
    host) have to do with that."""
    running = _roles(settings, wanted)
    waiting = sorted(name for name, said in running.items() if not (said["running"] and said["state"] == "ready"))
    checks = {
        "roles": f"not ready: {', '.join(waiting)}" if waiting else "",
        "database": _database(settings),
        "disk": _disk(settings),
    }
    return Health(checks | ({"listener": _listener(settings)} if "receive" in running else {}))


def _roles(settings: Settings, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the processes noted that must run here.

    A node on one machine has all roles. Of a node on several, each machine has those that its `overread serve` was told
    to run; without a word about which, that is what it runs now.
    """
    folder, devices = settings.node.data_dir, settings.infer.device
    if wanted:
        return roles.status(folder, roles.processes(devices, wanted))
    return roles.expected(folder, devices, shared=settings.is_shared)


def _database(settings: Settings) -> str:
    """The file or server is asked by itself: a health check must not wait for what the store's own opening does."""
    where = settings.database_at
    return _file(where) if isinstance(where, Path) else _server(where, settings.database.password_file)


def _server(url: str, password_file: Path | None) -> str:
    from node.network.secret import read_secret
    from node.storage.postgres import answers

    try:
        wrong = answers(url, read_secret(password_file) if password_file else "", seconds=SECONDS)
    except SettingsError as error:
        wrong = str(error)
    return wrong and f"the database does not answer: {wrong}"


def _file(path: Path) -> str:
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=SECONDS, uri=True)
        ) as one:
            one.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    except sqlite3.Error as error:
        return f"the database does not answer: {error}"
    return ""


def _disk(settings: Settings) -> str:
    folder = settings.spool_dir if settings.is_shared else settings.node.data_dir
    try:
        free = shutil.disk_usage(folder).free // 1024**2
    except OSError as error:
        return f"the folder for images ({folder}) cannot be looked at: {error.strerror}"
    reserve = settings.listener.reserve_mb
    return f"{free} MB free, listener.reserve_mb = {reserve}" if free < reserve else ""


def _listener(settings: Settings) -> str:
    """Whether the port takes connections. No association is asked for: that would be counted and logged each time."""
    bind = ipaddress.ip_address(settings.listener.bind)
    host = str(bind) if not bind.is_unspecified else "::1" if bind.version == 6 else "127.0.0.1"
    plain = settings.tls is None or settings.tls.plain
    port = settings.listener.port if plain else settings.tls.port if settings.tls else 0
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError as error:
        return f"{host}:{port} takes no connection: {error.strerror or error}"
    return ""


def report(config: Path | None, *, only_alive: bool, as_json: bool, wanted: str = "") -> int:
    """Print what was looked at; the exit code for a container's or a supervisor's health check: 0 well, 1 not, 2 cannot
    be asked. `wanted`: roles that must run here, with commas between them."""
    chosen = [role.strip() for role in wanted.split(",") if role.strip()]
    if unknown := sorted(set(chosen) - set(roles.ROLES)):
        sys.stderr.write(f"--roles {wanted}: no such role: {', '.join(unknown)} (have: {', '.join(roles.ROLES)})\n")
        return 2
    try:
        settings = Settings.load(find_file(config))
    except SettingsFileError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    health = (alive if only_alive else ready)(settings, chosen)
    if as_json:
        sys.stdout.write(json.dumps({"well": health.well, "checks": health.checks}) + "\n")
    else:
        sys.stdout.writelines(f"{name:<9} {wrong or 'ok'}\n" for name, wrong in health.checks.items())
    return 0 if health.well else 1


def main(arguments: Sequence[str]) -> int:
    """`overread health`, without what other commands load."""
    parser = argparse.ArgumentParser(prog="overread health", description="Is this node alive and ready?")
    parser.add_argument("-c", "--config", type=Path, default=None)
    parser.add_argument("--alive", action="store_true")
    parser.add_argument("--roles", default="", help="which must run here: a host of several has only some")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    return report(given.config, only_alive=given.alive, as_json=given.json, wanted=given.roles)
