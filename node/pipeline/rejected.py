"""Whoever was not let in, for the audit trail: counted in memory, put down as rows from the role's own loop.

The listener's threads write nothing, so that a scan of the port costs no disk. The first refusal of its kind is a row
within a second; the same again within a minute are one row together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from node.network.incoming import Rejection, Requestor
from node.storage import auditing
from node.storage.auditing import Rejected
from node.storage.store import Store

TOGETHER_SECONDS = 60.0
KINDS = 1000
"""So many are told apart; what comes then is counted without a name until others were put down."""
RULES = {7: "called AE title not recognized", 3: "calling AE title not recognized"}
"""By the diagnostic of PS3.8 Table 9-21, where the result is permanent; all else is temporary."""

Key = tuple[str, str, str, str]


@dataclass
class Kind:
    """Refusals that are the same in everything, since the last row."""

    times: int = 0
    last_at: float = 0.0
    rows_until: float = 0.0


class Rejections:
    """Counts refusals and puts them down; `kept`: whether there is an audit trail now."""

    def __init__(self, store: Store, *, kept: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._store = store
        self._kept = kept
        self._clock = clock
        self._kinds: dict[Key, Kind] = {}
        self._lock = threading.Lock()

    def note(self, requestor: Requestor, rejection: Rejection) -> None:
        """From an association's own thread."""
        if not self._kept():
            return
        titles = (_shown(requestor.calling_ae_title), _shown(requestor.called_ae_title))
        key = (rule_of(rejection), *titles, requestor.address)
        with self._lock:
            if key not in self._kinds and len(self._kinds) >= KINDS:
                key = (rule_of(rejection), "", "", "")
            kind = self._kinds.setdefault(key, Kind())
            kind.times += 1
            kind.last_at = self._clock()

    def put_down(self) -> int:
        """Make rows of what is due; their number."""
        now = self._clock()
        due = []
        with self._lock:
            for key, kind in list(self._kinds.items()):
                if not now < kind.rows_until <= now + TOGETHER_SECONDS:
                    if kind.times:
                        due.append((key, Rejected(kind.last_at, *key, kind.times)))
                        self._kinds[key] = Kind(rows_until=now + TOGETHER_SECONDS)
                    else:
                        del self._kinds[key]
        if due:
            try:
                auditing.reject(self._store, [row for _, row in due])
            except BaseException:
                self._back(due)
                raise
        return len(due)

    def _back(self, due: list[tuple[Key, Rejected]]) -> None:
        """The database was busy: they are put down the next time."""
        with self._lock:
            for key, row in due:
                kind = self._kinds.setdefault(key, Kind())
                kind.times += row.times
                kind.last_at, kind.rows_until = row.at, 0.0


def rule_of(rejection: Rejection) -> str:
    """One of a few words; the rule's own may quote what a stranger showed."""
    return RULES.get(rejection.diagnostic, "refused") if rejection.result == 1 else "refused for now"


def _shown(title: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in title)[:16]
