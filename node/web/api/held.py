"""Held studies, and the decision about one."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from node.admin import decisions
from node.admin.contradictions import contradictions
from node.storage import browse
from node.web.api import answers
from node.web.api.answers import CHANGES
from node.web.auth import Operator, Viewer
from node.web.decided import decided
from node.web.desk import At, Desk, Row

router = APIRouter(prefix="/held")


@router.get("")
def listed(desk: At, who: Viewer) -> list[answers.Held]:
    """Studies whose instances contradict each other, that first which has waited longest."""
    return [answers.Held.model_validate(one) for one in contradictions(desk.store)]


@router.post("/{study_id}/accept", responses=CHANGES)
def accept(desk: At, who: Operator, study_id: Row) -> answers.Decided:
    """What came is right; it replaces what was there, and the study is read again."""
    return _decide(desk, who, study_id, decisions.accept)


@router.post("/{study_id}/reject", responses=CHANGES)
def reject(desk: At, who: Operator, study_id: Row) -> answers.Decided:
    """What came is wrong; it is kept aside, and the study goes on as it was."""
    return _decide(desk, who, study_id, decisions.reject)


def _decide(desk: Desk, who: Operator, study_id: int, decision: Callable[..., int]) -> answers.Decided:
    n = decision(desk.store, desk.bell, browse.study(desk.store, study_id), now=desk.clock())
    decided(who, decision.__name__, study=study_id)
    after = answers.Study.model_validate(browse.study(desk.store, study_id))
    return answers.Decided(study=after, instances=n)
