"""One route: which images go to which model, what is made of them, and where that goes."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from config.peer import Section
from config.values import Conditions, Distinct, Frames, Name


class Gate(Section):
    at_least: float = Field(ge=0, le=1)


class Route(Section):
    name: Name
    when: Conditions = {}
    unless: Conditions = {}
    from_peers: Distinct[Name] = []
    bundle: str
    frames: Frames | None = None
    gate: Gate | None = None
    results: Annotated[Distinct[Literal["sr", "sc", "gsps", "kos", "pdf"]], Field(min_length=1)] = ["sr", "sc"]
    sc: Literal["always", "flagged", "never"] = "always"
    deliver_to: Distinct[Name] = []
    mode: Literal["live", "shadow"] = "live"
    priority: Literal["stat", "high", "routine", "low"] | None = None
    accept_failed_audit: bool = False
    accept_unaudited: bool = False

    @model_validator(mode="after")
    def _delivers(self) -> Route:
        if self.mode == "live" and not self.deliver_to:
            raise ValueError('a live route needs deliver_to = ["peer"] (or mode = "shadow")')
        return self

    @model_validator(mode="after")
    def _is_never_silent(self) -> Route:
        """Silence is not "normal": whatever comes out, something has to say so."""
        if not {"sr", "pdf"} & set(self.results) and not ("sc" in self.results and self.sc == "always"):
            raise ValueError(
                f'results = {json.dumps(self.results)} with sc = "{self.sc}" makes nothing of a study in which nothing '
                'is flagged: add "sr", "pdf", or "sc" with sc = "always"'
            )
        return self
