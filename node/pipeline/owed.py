"""What a role must still put down: written at once, or as soon as the database takes it again, in its order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from node.errors import StoreError

log = logging.getLogger(__name__)


class Owed:
    """Writes that may not be forgotten while the database is away."""

    def __init__(self) -> None:
        self._writes: deque[Callable[[], object]] = deque()
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self._writes)

    def write(self, write: Callable[[], object]) -> None:
        """Write now, after what is owed already, or as soon as it can be."""
        self.add(write)
        self.put_down()

    def add(self, write: Callable[[], object]) -> None:
        """Write when what is owed is next put down."""
        self._writes.append(write)

    def put_down(self) -> bool:
        """Write what is owed; False while it cannot be."""
        if not self._writes:
            return True
        with self._turn:
            while self._writes:
                try:
                    self._writes[0]()
                except StoreError as error:
                    log.error("write.owed writes=%d: %s", len(self._writes), error)
                    return False
                except BaseException:  # trying it again would not help, and keep all others waiting
                    self._writes.popleft()
                    raise
                self._writes.popleft()
        return True
