"""The node at a glance, its models, its settings."""

from __future__ import annotations

from fastapi import APIRouter

from node.admin.effective import effective
from node.admin.models import models as all_models
from node.admin.overview import overview
from node.web.api.answers import Model, Part, Status
from node.web.auth import Viewer
from node.web.desk import At

router = APIRouter()


@router.get("/status")
def status(desk: At, who: Viewer) -> Status:
    """Roles, counts, alarms, the newest studies: what `overread status` says."""
    return Status.model_validate(overview(desk.settings, desk.store, desk.spool, now=desk.clock()))


@router.get("/models")
def models(desk: At, who: Viewer) -> list[Model]:
    """Every bundle, those in use first."""
    return [Model.model_validate(one) for one in all_models(desk.settings, desk.bundles)]


@router.get("/settings")
def settings(desk: At, who: Viewer) -> list[Part]:
    """The settings that the node runs with, and what they mean."""
    return [Part.model_validate(one) for one in effective(desk.settings)]
