"""The settings that the node runs with, key by key: value, whether it is the default, what it means. Secrets are not
among them: they are in files of their own, and here as those files' names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from config.explained import explained
from config.settings import Settings


@dataclass(frozen=True)
class Setting:
    """One key; `given` where the file or the environment says other than the default."""

    key: str
    value: str
    given: bool
    explanation: str


@dataclass(frozen=True)
class Part:
    """One section, or one of several of the same kind, which then has a `name`."""

    section: str
    name: str
    settings: tuple[Setting, ...]


def effective(settings: Settings) -> list[Part]:
    """Every section in the order of the schema; sections that are not there are left out."""
    return list(_parts(settings))


def _parts(settings: Settings) -> Iterator[Part]:
    for section in type(settings).model_fields:
        value = getattr(settings, section)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, BaseModel):
                name = str(getattr(one, "name", "")) if isinstance(value, list) else ""
                yield Part(section, name, tuple(_settings(section, one)))


def _settings(section: str, part: BaseModel) -> Iterator[Setting]:
    for key, field in type(part).model_fields.items():
        value = getattr(part, key)
        default = field.get_default(call_default_factory=True)
        yield Setting(key, _written(value), value != default, explained().get((section, key), ""))


def _written(value: Any) -> str:
    """As the file would have it; a user and a password in a url are not shown."""
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, Path):
        value = str(value)
    return re.sub(r"//[^/@\s]*@", "//...@", json.dumps(value, ensure_ascii=False, default=str))
