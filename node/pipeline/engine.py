"""Where a node's networks run, and what is done while that place cannot be reached."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from config.settings import Settings
from models.engine import EngineAway
from models.pool.link import App, Place, Pool

log = logging.getLogger(__name__)

FIRST_SECONDS, MOST_SECONDS = 2.0, 60.0
"""Between two attempts to reach the engine: twice as long each time, up to a minute."""
PREFIX = "overread"


def engine_of(settings: Settings) -> Pool | None:
    """The pool of `infer.engine = "ray"`; None where networks run in the worker itself. Nothing is asked yet."""
    if settings.infer.engine == "local":
        return None
    rules, infer = settings.ray, settings.infer
    place = Place(
        address=rules.address,
        token_file=rules.token_file,
        connect_seconds=rules.connect_seconds,
        start_seconds=rules.start_seconds,
        answer_seconds=rules.answer_seconds,
    )
    app = App(
        name=PREFIX,
        cpus=rules.cpus,
        gpus=rules.gpus,
        replicas_min=rules.replicas_min,
        replicas_max=rules.replicas_max,
        batch=infer.batch,
        batch_wait_ms=rules.batch_wait_ms,
        threads=infer.threads or max(1, int(rules.cpus)),
    )
    return Pool(place, app)


def leave(old: Pool | None, new: Pool | None) -> None:
    """End what only the old settings asked for: their applications that no route uses any more, and their driver."""
    if old is None:
        return
    for name in sorted(old.names - (new.names if new else set())):
        try:
            old.end(name)
            log.info("engine.ended application=%s", name)
        except EngineAway as error:
            log.warning("engine.not-ended application=%s reason=%r", name, str(error))
            break
    old.close()


class Standing:
    """Whether the engine can be reached; `why` not is empty while it can."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.why = ""
        self._clock = clock
        self._wait = FIRST_SECONDS
        self._next = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is to be tried again now."""
        return self._clock() >= self._next

    def lost(self, why: str) -> None:
        log.error("engine.away reason=%r next_try_seconds=%g", why, self._wait)
        self.why = why
        self._next = self._clock() + self._wait
        self._wait = min(2 * self._wait, MOST_SECONDS)

    def found(self) -> None:
        if self.why:
            log.warning("engine.back")
        self.why, self._wait = "", FIRST_SECONDS
