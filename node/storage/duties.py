"""Duties: what only one host does at a time, as it reaches beyond the rows: mails, questions to peers, deleting files.

A duty is a row with an end that its host puts off while it lives; whoever finds it over takes it. Where nobody shares
the database all duties are ours.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from node.errors import RoleTaken, StoreError
from node.storage import schema
from node.storage.store import Store, elapsed

log = logging.getLogger(__name__)

D = schema.duty

SECONDS = 40.0
"""A host that died had its duties for no longer than this."""
RENEW_SECONDS = 10.0
TRY_SECONDS = 5.0


def take(store: Store, name: str, seconds: float = SECONDS) -> bool:
    """Have a duty for so many seconds more; False: another host has it."""
    if not store.database.shared:
        return True
    with store.claim() as connection:
        now = store.database.clock(connection)
        # Nobody has one for longer: a clock that was set back must not keep a dead host's duty
        over = or_(D.c.host == store.host, D.c.until < now, D.c.until > now + 2 * seconds)
        mine = {"host": store.host, "until": now + seconds}
        if connection.execute(update(D).where(D.c.name == name, over).values(**mine)).rowcount:
            return True
        if connection.execute(select(D.c.name).where(D.c.name == name)).first():
            return False
        try:
            with connection.begin_nested():
                connection.execute(insert(D).values(name=name, **mine))
        except IntegrityError:  # another host came first
            return False
        return True


def give_up(store: Store, names: Collection[str]) -> None:
    """Let others have these duties at once, as far as they are ours."""
    if store.database.shared and names:
        with store.claim() as connection:
            connection.execute(delete(D).where(D.c.host == store.host, D.c.name.in_(names)))


def holders(store: Store) -> dict[str, str]:
    """Which host has which duty."""
    with store.read() as connection:
        return {row.name: row.host for row in connection.execute(select(D).order_by(D.c.name))}


class Duties:
    """Those of one process: taken when they are asked for, kept while it lives, given up when it closes."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = elapsed) -> None:
        self._store = store
        self._clock = clock
        self._until: dict[str, float] = {}
        self._again: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="duties", daemon=True)

    def mine(self, name: str) -> bool:
        """Whether this duty is ours now; it is asked for when it may be had.

        Raises:
            StoreError: the database is away, and what we had is over.
        """
        if not self._store.database.shared:
            return True
        with self._lock:
            if self._clock() < self._until.get(name, 0.0):
                return True
            if self._clock() < self._again.get(name, 0.0):
                return False
            self._again[name] = self._clock() + TRY_SECONDS
            return self._take(name)

    def drop(self, name: str) -> None:
        """Let another host have it, if it is ours."""
        with self._lock:
            if self._until.pop(name, None) is not None:
                give_up(self._store, [name])

    def _take(self, name: str) -> bool:
        asked = self._clock()
        had = name in self._until
        if not take(self._store, name):
            if self._until.pop(name, None) is not None:
                log.warning("duty.lost name=%s", name)
            return False
        if not had:
            log.info("duty.taken name=%s", name)
        self._until[name] = asked + SECONDS
        if self._thread.ident is None and not self._stop.is_set():
            self._thread.start()
        return True

    def _keep(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            for name in list(self._until):
                with self._lock, contextlib.suppress(StoreError):
                    self._take(name)

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        with contextlib.suppress(StoreError):
            give_up(self._store, list(self._until))


@contextlib.contextmanager
def hold(store: Store, name: str, taken: str) -> Iterator[None]:
    """Have a duty for as long as something takes.

    Raises:
        RoleTaken: another host has it; with these words.
    """
    with contextlib.closing(Duties(store)) as held:
        if not held.mine(name):
            raise RoleTaken(taken)
        yield
