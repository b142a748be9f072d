"""What is wrong with the settings, in words: where, key, value, and what is allowed.

It knows the shape of a settings model and no single setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

Place = tuple[int | str, ...]


def in_words(error: ValidationError, model: type[BaseModel], *, file: str, variables: Mapping[str, str]) -> list[str]:
    """One line per problem, each beginning with the file or the environment variable that the value is from.

    `variables` maps the settings that the environment gives, as "section.key" or "section", to the variables' names.
    """
    return [line for item in error.errors(include_url=False) for line in _lines(item, model, file, variables)]


def _lines(item: Any, model: type[BaseModel], file: str, variables: Mapping[str, str]) -> Iterator[str]:
    place: Place = item["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    variable = variables.get(".".join(map(str, place[:2]))) or variables.get(str(place[0]) if place else "")
    source = f"${variable}" if variable else file
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        yield f"{source}: {key}: no such key (have: {', '.join(_keys(model, place[:-1]))})"
    elif item["type"] == "missing":
        yield f"{source}: {key}: is missing"
    elif item["type"] == "list_type" and len(place) == 1:
        yield f"{source}: {key}: write [[{key}]] with two brackets, once for each {key}"
    elif item["type"] == "value_error" and isinstance(item["input"], dict):
        # A rule about several keys; its words name them. One line for each of its problems.
        yield from (f"{source}: {key}: {line}" if key else f"{source}: {line}" for line in message.splitlines())
    else:
        yield f"{source}: {key} = {_shown(item['input'])}: {message}"


def _shown(value: object) -> str:
    """A value as it was written, without the user and password of a url."""
    return re.sub(r"//[^/@\s]*@", "//...@", repr(value))


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that are allowed at a place of the tree."""
    for part in place:
        if isinstance(part, str):
            model = _within(model.model_fields[part].annotation) or model
    return sorted(model.model_fields)


def _within(kind: Any) -> type[BaseModel] | None:
    """The model that an annotation holds, itself, in a list or optionally."""
    return next((k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, BaseModel)), None)


def unknown_variables(environment: Mapping[str, str], model: type[BaseModel], prefix: str) -> list[str]:
    """Variables of ours that no setting answers to: a typing error there would otherwise be silent.

    Names without `__` are left alone: some are not settings (the file's place, for one).
    """
    lines = []
    for name in sorted(environment):
        parts = name.upper().removeprefix(prefix).lower().split("__")
        if not name.upper().startswith(prefix) or len(parts) < 2:
            continue
        field = model.model_fields.get(parts[0])
        section = _within(field.annotation) if field else None
        if field is None:
            lines.append(f"${name}: no such section (have: {', '.join(_keys(model, ()))})")
        elif section is None or get_origin(field.annotation) is list:
            lines.append(f"${name}: [[{parts[0]}]] is set in the file only")
        elif parts[1] not in section.model_fields:
            lines.append(f"${name}: no such key (have: {', '.join(sorted(section.model_fields))})")
    return lines


def given_variables(environment: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Which settings the environment gives: "section.key" or "section" -> the variable's name."""
    return {
        ".".join(name.upper().removeprefix(prefix).lower().split("__")[:2]): name
        for name in environment
        if name.upper().startswith(prefix)
    }
