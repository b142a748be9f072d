"""Pulls, for programs: they are made, stopped and resumed by `overread pull`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import AliasPath, Field

from node.admin.pulls import seen
from node.storage.pulls import PullState
from node.web.api.answers import Answer
from node.web.auth import Viewer
from node.web.desk import At

router = APIRouter(prefix="/pulls")


class Standing(Answer):
    """Studies of a pull, and the jobs of what it brought; rates are those of the last hour."""

    brought: int
    given_up: int
    to_bring: int
    read: int
    unread: int
    failed: int
    brought_per_hour: float | None
    read_per_hour: float | None
    seconds_left: float | None


class Cost(Answer):
    studies: int
    images: int
    received: Annotated[int, Field(description="Bytes, also of what came twice.")]
    transfer_seconds: float
    jobs: int
    worker_seconds: float
    kept_images: Annotated[int, Field(description="Bytes on disk now.")]
    kept_results: Annotated[int, Field(description="Bytes on disk now.")]


class Pull(Answer):
    number: Annotated[int, Field(validation_alias=AliasPath("pull", "id"))]
    peer: Annotated[str, Field(validation_alias=AliasPath("pull", "peer"))]
    state: Annotated[PullState, Field(validation_alias=AliasPath("pull", "state"))]
    reason: Annotated[str, Field(validation_alias=AliasPath("pull", "reason"))]
    created_at: Annotated[float, Field(validation_alias=AliasPath("pull", "created_at"))]
    ended_at: Annotated[float | None, Field(validation_alias=AliasPath("pull", "ended_at"))]
    stands: Standing
    cost: Cost


@router.get("")
def listed(desk: At, who: Viewer) -> list[Pull]:
    """The newest pulls: how far each is, how fast it goes, what it cost."""
    return [Pull.model_validate(one) for one in seen(desk.store, now=desk.clock())]
