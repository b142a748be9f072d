"""Which studies a pull is to bring: its peer is asked question by question, and each answer is remembered at once.

Whoever dies while a hundred thousand names are asked for is followed by whoever goes on with the first one unanswered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from node.failpoint import failpoint
from node.network.source import Found, Source, Wanted
from node.pipeline.asked import missing_of, questions_of, wanted_of
from node.storage import pulls
from node.storage.pulls import Pull, PullState
from node.storage.store import Store


def find(source: Source, wanted: Sequence[Wanted], limit: int = 0) -> dict[str, Found]:
    """Ask which studies there are; `limit` of them, if it is not 0.

    Raises:
        PeerError: the peer does not answer.
    """
    found: dict[str, Found] = {}
    for one in wanted:
        for study in source.find(one):
            if limit and len(found) >= limit:
                return found
            found[study.study_instance_uid] = study
    return found


def ask(
    store: Store,
    pull: Pull,
    source: Source,
    limit: int,
    *,
    clock: Callable[[], float],
    told: Callable[[int, int], None],
) -> None:
    """Put the questions of a pull that are not answered yet; `told` is called with how many are, of how many.

    Ends early where a person stops the pull.

    Raises:
        PeerError: one could not be answered.
    """
    questions = questions_of(wanted_of(store, pull))
    already, have = pull.asked or 0, sum(pulls.counts(store, pull.id).values())
    for n, question in enumerate(questions[already:], start=already + 1):
        if pulls.state(store, pull.id) is not PullState.OPEN:
            return
        found = find(source, [question], limit and limit - have)
        missing = [] if limit else missing_of([question], found)
        counted = {uid: study.instances for uid, study in found.items()}
        have += pulls.found(store, pull.id, counted, missing=missing, asked=n, now=clock())
        failpoint("pull.asked")
        told(n, len(questions))
        if limit and have >= limit:
            break
    pulls.found(store, pull.id, {}, missing=(), now=clock())
