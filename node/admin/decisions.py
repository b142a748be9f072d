"""What a person decides about studies: try again, settle, accept, reject, route again.

The command line and the dashboard call the same functions. A decision is a row; the roles are woken and do the work.
"""

from __future__ import annotations

from dataclasses import dataclass

from config.settings import Settings
from node.domain import Study, StudyState
from node.errors import DecisionError
from node.storage import deliveries, jobs, negotiated, proofs, routing, studies
from node.storage.bell import Bell
from node.storage.store import Store


@dataclass(frozen=True)
class Retried:
    """How many jobs and deliveries are tried again, and about how many sent results peers are asked anew."""

    jobs: int
    deliveries: int
    proofs: int


@dataclass(frozen=True)
class Settled:
    """A study that a person called complete. `new`: it has a revision that it did not have before."""

    study: Study
    new: bool
    why_not: str = ""


def retry(settings: Settings, store: Store, bell: Bell, study: Study, *, now: float) -> Retried:
    """Try again what was given up of one study: dead jobs, dead deliveries, and proof that results are kept."""
    provers = _provers(settings)
    tried = Retried(
        jobs.retry(store, study, now=now),
        deliveries.retry(store, study, now=now),
        proofs.ask_anew(store, provers, study_id=study.id, now=now),
    )
    _wake(store, bell, provers)
    return tried


def retry_all(settings: Settings, store: Store, bell: Bell, *, peer: str | None = None, now: float) -> Retried:
    """The same for all studies; with `peer` only the deliveries to it."""
    provers = [name for name in _provers(settings) if peer in (None, name)]
    tried = Retried(
        jobs.retry_all(store, now=now) if peer is None else 0,
        deliveries.retry_all(store, peer, now=now),
        proofs.ask_anew(store, provers, now=now),
    )
    _wake(store, bell, provers)
    return tried


def _provers(settings: Settings) -> list[str]:
    return [p.name for p in settings.peer if p.proof != "none"]


def _wake(store: Store, bell: Bell, provers: list[str]) -> None:
    for name in provers:
        negotiated.forget(store, name)
    for role in ("infer", "dispatch"):
        bell.ring(role)


def settle(store: Store, bell: Bell, study: Study, *, now: float) -> Settled:
    """Say that a study is complete, without waiting for its signal.

    Raises:
        DecisionError: it is not RECEIVING.
    """
    from node.pipeline.settle import compare
    from node.pipeline.settle import settle as settle_now

    if study.state is not StudyState.RECEIVING:
        raise DecisionError(f"study {study.id} is {study.state}: only a study that is RECEIVING can settle")
    try:
        new = settle_now(store, study, "a person said so", now) if compare(store, study, now) else None
    except OSError as error:
        return Settled(study, False, f"its pixels could not be compared: {error.strerror or error}")
    bell.ring("dispatch")
    after = new or studies.by_id(store, study.id)
    return Settled(after, new is not None, _unsettled(after))


def _unsettled(study: Study) -> str:
    """Why a study did not settle when it was told to; "" when it did."""
    if study.state is StudyState.HELD:
        return "its instances contradict each other: `overread held list` says in what"
    if study.state is StudyState.RECEIVING:
        return "an instance arrived meanwhile: try again"
    return ""


def accept(store: Store, bell: Bell, study: Study, *, now: float) -> int:
    """The newer instances of a held study are right. How many they were.

    Raises:
        HeldError: the study is not held.
    """
    n = studies.accept(store, study, now=now)
    bell.ring("dispatch")
    return n


def reject(store: Store, bell: Bell, study: Study, *, now: float) -> int:
    """The newer instances of a held study are wrong. How many they were.

    Raises:
        HeldError: the study is not held.
    """
    n = studies.reject(store, study, now=now)
    bell.ring("dispatch")
    return n


def route_again(store: Store, bell: Bell, study: Study, *, now: float) -> Study:
    """Decide anew which routes apply, by today's settings.

    Raises:
        DecisionError: only a study that is ROUTED or UNROUTED can be.
    """
    if not routing.again(store, study, now=now):
        state = studies.by_id(store, study.id).state
        raise DecisionError(f"study {study.id} is {state}: only one that is ROUTED or UNROUTED can be routed again")
    bell.ring("dispatch")
    return studies.by_id(store, study.id)
