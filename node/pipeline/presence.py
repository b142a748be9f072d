"""A host among many says that it is there, and takes over from those that are gone. One by itself says nothing."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from blake3 import blake3

import node
from config.settings import Settings
from node.edge import careful
from node.errors import RoleTaken
from node.storage import hosts, migrate, roles
from node.storage.hosts import GONE_SECONDS, SAY_SECONDS, TakenOver
from node.storage.store import Store

log = logging.getLogger(__name__)

ALIKE = ("settle", "peer", "route", "deliver", "retention", "alarm", "canary", "audit")
"""What all hosts must have in common: what is decided by any of them for all."""


def digest(settings: Settings) -> str:
    """A short name of what hosts must have in common; where files lie may differ."""
    said = settings.model_dump(include=set(ALIKE))
    text = json.dumps(said, sort_keys=True, default=lambda value: value.name if isinstance(value, Path) else str(value))
    return blake3(text.encode()).hexdigest()[:16]


def receives(settings: Settings, store: Store) -> bool:
    """Whether what is sent to this node comes to a listener of it, here or on another host."""
    if store.database.shared:
        return hosts.runs(store, "receive")
    return bool(roles.status(settings.node.data_dir, ["receive"])["receive"]["running"])


def see_who_else(store: Store, found: str, what: str) -> None:
    """Whether the tables of many hosts may be changed now: what is only added to them disturbs nobody.

    Raises:
        RoleTaken: hosts work with them that could not go on.
    """
    if migrate.adds(found):
        return
    if others := hosts.others(store):
        names = ", ".join(f"{host.name} ({host.version}, {', '.join(sorted(host.roles))})" for host in others)
        raise RoleTaken(
            f"{what} only while no other host works with {store.name}, as the programs of before could not go on: "
            f"first stop `overread serve` on {names}"
        )


def see_nobody(store: Store, data_dir: Path, what: str) -> None:
    """Whether all other hosts are stopped, and no pull runs here: what they write would be left behind.

    The caller holds the roles of this host.

    Raises:
        RoleTaken: somebody works with the rows.
    """
    pulls = [name for name in roles.here(data_dir) if name.startswith("pull-")]
    found = hosts.others(store) if store.revision() else []
    who = [f"{host.name} ({', '.join(sorted(host.roles))})" for host in found]
    if who or pulls:
        raise RoleTaken(f"{what} only while nobody works with {store.name}: first stop {', '.join([*who, *pulls])}")


class Presence:
    """Says every SAY_SECONDS what runs here, from when it is entered until it is left. `without` are processes that end
    with whoever leaves."""

    def __init__(
        self,
        store: Store,
        settings: Callable[[], Settings],
        *,
        ring: Callable[[str], None],
        without: Collection[str],
    ) -> None:
        self._store = store
        self._settings = settings
        self._ring = ring
        self._without = set(without)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._since: float | None = None
        """By the database's clock: since then it was reached all the time."""
        self._twin = ""
        """Another machine that goes by our name among hosts."""

    def __enter__(self) -> Presence:
        if self._store.database.shared:
            careful(self.step, pause=0)
            self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if not self._store.database.shared:
            return
        self._stop.set()
        self._thread.join(GONE_SECONDS / 2)
        careful(self._leave, pause=0)

    def step(self) -> TakenOver:
        """Say that this host is there. Who said so for long enough knows who did not."""
        said = self._say(roles.here(self._settings().node.data_dir))
        self._see_twin(said.name)
        steady = said.after is not None and 0 <= said.after <= GONE_SECONDS / 2
        first = self._since is None
        if not steady or self._since is None:
            self._since = said.at
        if first:
            careful(lambda: hosts.take_over_strays(self._store), pause=0)
        if said.at - self._since < GONE_SECONDS:
            return TakenOver()
        found = hosts.take_over(self._store)
        if found.hosts:
            text = "host.gone hosts=%s jobs=%d deliveries=%d associations=%d"
            log.warning(text, ",".join(found.hosts), found.jobs, found.deliveries, found.associations)
            for role in ("infer", "dispatch"):
                self._ring(role)
        return found

    def _say(self, running: dict[str, str]) -> hosts.Said:
        settings = self._settings()
        reason = _refused(settings)
        if self._twin:
            file = roles.host_file(settings.node.data_dir)
            reason = (
                f"{self._twin} goes by the same id, as one's data_dir is a copy of the other's, and each takes the "
                f"other's work for its own: stop the copy, delete {file} there, and start it again"
            )
        return hosts.say(
            self._store,
            name=socket.gethostname(),
            version=node.__version__,
            settings=digest(settings),
            roles=running,
            reason=reason,
        )

    def _see_twin(self, before: str) -> None:
        """Who wrote in our row since we did, and is not called as we are. The first time it may have been ourselves, on
        another machine."""
        ours = socket.gethostname()[: hosts.NAME]
        twin = before if self._since is not None and before not in ("", ours) else ""
        if twin and not self._twin:
            log.critical("host.twin id=%s name=%s: one's data_dir is a copy of the other's", self._store.host, twin)
        self._twin = twin

    def _leave(self) -> None:
        left = {n: s for n, s in roles.here(self._settings().node.data_dir).items() if n not in self._without}
        if left:
            self._say(left)
        else:
            hosts.leave(self._store)

    def _run(self) -> None:
        while not self._stop.wait(SAY_SECONDS):
            careful(self.step, pause=0)


def _refused(settings: Settings) -> str:
    """Why a host goes on with other settings than its file has."""
    for said in roles.supervisors(settings.node.data_dir).values():
        if said.get("refused"):
            return f"its settings file was not taken up: {str(said['refused']).splitlines()[0]}"
    return ""
