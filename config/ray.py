"""The pool of GPUs: a Ray cluster that somebody else started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from config.peer import Section


def _cluster(address: str) -> str:
    """HOST:PORT of a cluster's head, or "" for none."""
    host, _, port = address.rpartition(":")
    if address and not (
        re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]", host) and port.isdecimal() and 0 < int(port) < 65536
    ):
        raise ValueError(
            'only HOST:PORT of the head of a running cluster is allowed, such as "gpu1.example:6379"; a cluster is not '
            'started from here, so "local", "auto" and ray:// are not'
        )
    return address


MARGIN_SECONDS = 30
"""Of a batch's deadline beyond those of the cluster: for decoding, and to notice that a cluster is hung."""


class Ray(Section):
    address: Annotated[str, AfterValidator(_cluster)] = ""
    token_file: Path | None = None
    replicas_min: int = Field(default=1, ge=0, le=1000)
    replicas_max: int = Field(default=1, ge=1, le=1000)
    gpus: float = Field(default=0, ge=0, le=1)
    cpus: float = Field(default=1, ge=0, le=256)
    batch_wait_ms: float = Field(default=10, ge=0, le=10_000)
    connect_seconds: float = Field(default=60, gt=0, le=3600)
    start_seconds: float = Field(default=300, gt=0, le=3600)
    answer_seconds: float = Field(default=60, gt=0, le=3600)

    @model_validator(mode="after")
    def _agrees(self) -> Ray:
        if self.replicas_max < self.replicas_min:
            raise ValueError(
                f"replicas_max = {self.replicas_max} must not be less than replicas_min = {self.replicas_min}"
            )
        if not self.gpus and not self.cpus:
            raise ValueError(
                "cpus = 0 and gpus = 0: a replica needs a part of one of them, or all would go to one host"
            )
        return self

    def contradicted(self, device: list[str], deadline_seconds: float) -> list[str]:
        """What does not go together with `infer.engine = "ray"`."""
        wrong = []
        if not self.address:
            wrong.append('infer.engine = "ray" needs ray.address = "HOST:PORT", the head of a running Ray cluster')
        if device != ["auto"]:
            wrong.append(f'infer.device = {device}: with engine = "ray" ray.gpus and ray.cpus say it; leave it out')
        if deadline_seconds <= (least := self.connect_seconds + self.answer_seconds + MARGIN_SECONDS):
            wrong.append(
                f"infer.deadline_seconds = {deadline_seconds:g} must be more than ray.connect_seconds + "
                f"ray.answer_seconds + {MARGIN_SECONDS} = {least:g}, or a cluster that hangs ends the worker"
            )
        return wrong
