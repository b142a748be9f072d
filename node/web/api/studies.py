"""Studies: the list, the story of one, and what an operator may ask for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from node.admin import decisions
from node.admin.story import story
from node.domain import StudyState
from node.storage import browse
from node.storage.browse import PAGE, Wanted
from node.web import days
from node.web.api import answers
from node.web.api.answers import CHANGES, told
from node.web.auth import Operator, Viewer
from node.web.decided import decided
from node.web.desk import At, Before, Limit, Row

router = APIRouter(prefix="/studies")


@router.get("")
def listed(
    desk: At,
    who: Viewer,
    state: Annotated[StudyState | None, Query(description="Only those in this state.")] = None,
    route: Annotated[str, Query(max_length=64, description="Only those that this route takes.")] = "",
    day: Annotated[days.Day | None, Query(description="Only those whose last instance came on this day.")] = None,
    limit: Limit = PAGE,
    before: Before = 0,
) -> answers.Studies:
    """Studies, those first whose last instance came last."""
    if day is not None and not days.FIRST <= day <= days.LAST:
        return answers.Studies(studies=[], next_before=None)
    since, until = days.bounds(day) if day else (None, None)
    wanted = Wanted(state=state, route=route, since=since, until=until)
    found = browse.studies(desk.store, wanted, before=before, limit=limit + 1)
    shown = [answers.Study.model_validate(study) for study in found[:limit]]
    return answers.Studies(studies=shown, next_before=shown[-1].row if len(found) > limit else None)


@router.get("/{study_id}", responses=told(404))
def one(desk: At, who: Viewer, study_id: Row) -> answers.Story:
    """One study from its associations to the proof that its results are kept."""
    return answers.Story.model_validate(story(desk.store, desk.bundles, browse.study(desk.store, study_id)))


@router.post("/{study_id}/retry", responses=CHANGES)
def retry(desk: At, who: Operator, study_id: Row) -> answers.Retried:
    """Try again what was given up of it, and ask again for proof that its results are kept."""
    study = browse.study(desk.store, study_id)
    done = decisions.retry(desk.settings, desk.store, desk.bell, study, now=desk.clock())
    decided(who, "retry", study=study_id)
    return answers.Retried.model_validate(done)


@router.post("/{study_id}/settle", responses=CHANGES)
def settle(desk: At, who: Operator, study_id: Row) -> answers.Settled:
    """Say that it is complete, without waiting for its signal."""
    done = decisions.settle(desk.store, desk.bell, browse.study(desk.store, study_id), now=desk.clock())
    decided(who, "settle", study=study_id)
    return answers.Settled.model_validate(done)


@router.post("/{study_id}/route", responses=CHANGES)
def route_again(desk: At, who: Operator, study_id: Row) -> answers.Study:
    """Decide anew which routes apply, by today's settings."""
    after = decisions.route_again(desk.store, desk.bell, browse.study(desk.store, study_id), now=desk.clock())
    decided(who, "route", study=study_id)
    return answers.Study.model_validate(after)
