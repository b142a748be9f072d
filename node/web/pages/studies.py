"""Studies: the list, one of them from association to commitment, and what an operator may ask for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from markupsafe import Markup

from node.admin import audit, decisions
from node.admin.story import story
from node.domain import Study, StudyState
from node.errors import NoSuchStudy
from node.storage import browse
from node.storage.browse import PAGE, Wanted
from node.web import auth, days, view
from node.web.auth import Operator, Viewer
from node.web.decided import decided
from node.web.desk import At, Desk, Row

router = APIRouter(prefix="/studies")

FOUND = 200
"""Studies of one patient at most; more than that is no patient."""
Before = Annotated[int, Query(ge=0, lt=2**63)]


@router.get("")
def page(
    request: Request, desk: At, who: Viewer, state: str = "", route: str = "", day: str = "", before: Before = 0
) -> Response:
    chosen = days.parsed(day)
    since, until = days.bounds(chosen) if chosen else (None, None)
    wanted = Wanted(
        state=StudyState(state) if state in list(StudyState) else None,
        route=route,
        since=since,
        until=until,
    )
    found = browse.studies(desk.store, wanted, before=before, limit=PAGE + 1)
    filters = {"state": wanted.state or "", "route": route, "day": day if chosen else ""}
    return _listed(request, desk, who, found, filters)


@router.post("/search")
def search(request: Request, desk: At, who: Viewer, name: Annotated[str, Form(max_length=128)]) -> Response:
    """By what names a patient, and therefore not by an address."""
    wanted = Wanted(name=name.strip())
    found = browse.studies(desk.store, wanted, limit=FOUND) if wanted.name else []
    return _listed(request, desk, who, found, {"state": "", "route": "", "day": ""}, name=wanted.name)


def _listed(
    request: Request, desk: Desk, who: Viewer, found: list[Study], filters: dict[str, str], *, name: str | None = None
) -> Response:
    more = name is None and len(found) > PAGE
    return view.page(
        request,
        "studies.html",
        who,
        studies=found[:PAGE] if name is None else found,
        more=more,
        filters=filters,
        name=name,
        states=list(StudyState),
        routes=[route.name for route in desk.settings.route],
        now=desk.clock(),
    )


@router.get("/{study_id}")
def one(request: Request, desk: At, who: Viewer, study_id: Row) -> Response:
    study = browse.study(desk.store, study_id)
    audit.opened(desk.store, desk.settings, who.account.name, study, address=auth.address(request), now=desk.clock())
    told = Markup(_story(desk, study_id))  # noqa: S704  (as it is now: a form may have changed it)
    return view.page(request, "study.html", who, study=study, told=told, states=StudyState)


def _story(desk: Desk, study_id: int) -> str:
    try:
        study = browse.study(desk.store, study_id)
    except NoSuchStudy:
        return ""
    return view.fragment("parts/study.html", story=story(desk.store, desk.bundles, study), now=desk.clock())


parts = {"study": _story}


@router.post("/{study_id}/retry")
def retry(desk: At, who: Operator, study_id: Row) -> Response:
    study = browse.study(desk.store, study_id)
    done = decisions.retry(desk.settings, desk.store, desk.bell, study, now=desk.clock())
    said = f"{done.jobs} jobs and {done.deliveries} deliveries will be tried again"
    if done.proofs:
        said += f", and {done.proofs} results that were sent will be asked about"
    return _done(who, "retry", study_id, f"{said}.")


@router.post("/{study_id}/settle")
def settle(desk: At, who: Operator, study_id: Row) -> Response:
    done = decisions.settle(desk.store, desk.bell, browse.study(desk.store, study_id), now=desk.clock())
    if done.why_not:
        return _done(who, "settle", study_id, f"It did not settle: {done.why_not}")
    return _done(who, "settle", study_id, "It is settled." if done.new else "There is nothing new to analyse.")


@router.post("/{study_id}/route")
def route_again(desk: At, who: Operator, study_id: Row) -> Response:
    after = decisions.route_again(desk.store, desk.bell, browse.study(desk.store, study_id), now=desk.clock())
    return _done(who, "route", study_id, f"Its routes are decided anew, as revision {after.revision}.")


def _done(who: Operator, verb: str, study_id: int, said: str) -> Response:
    decided(who, verb, study=study_id)
    return view.back(f"/studies/{study_id}", said)
