"""Changes to the text of a settings file: text in, text out; comments, order and form of all else stay as they are.

A change moves whole lines of one section, or a name in one array. What comes out is read again and must say what went
in and the change, nothing else. Knows no files.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomlkit

from config.peer import Peer

HEADER = re.compile(r"[ \t]*\[\[?[ \t]*([^\[\]#\r\n]+?)[ \t]*\]\]?[ \t]*(#.*)?\r?\n?")
RULE = re.compile(r"#[ \t]*([-=#*])\1{2}")
"""A comment that parts a file: `# --- Peers ---`."""
HIDDEN_HEADER = re.compile(r"#[ \t]*\[")
HIDDEN_KEY = re.compile(r"#[ \t]*(\w+)[ \t]*=")

Values = dict[str, Any]


class EditError(ValueError):
    """The change cannot be made; the text is as it was."""


@dataclass(frozen=True)
class Section:
    """One `[[table]]` with its sub-tables: its lines, without the comments that lead it or follow it."""

    table: str
    first: int
    end: int


def add_peer(text: str, values: Mapping[str, object], *, to_routes: Sequence[str] = ()) -> str:
    """The text with one more [[peer]], behind the last one, and its name in the deliver_to of some routes.

    Raises:
        EditError: the name is taken, a route is unknown, or the text has a form that only a person can change.
    """
    said, name = _read(text), str(values["name"])
    if name in _names(said, "peer"):
        raise EditError(f"there is a [[peer]] named {name} already")
    _known(said, "route", to_routes)
    after = _with_section(text, "peer", values)
    for route in to_routes:
        after = _in_route(after, route, lambda r: _put(r, name))
    expected = said | {"peer": [*said.get("peer", []), dict(values)]}
    for route in expected.get("route", []):
        if route["name"] in to_routes:
            _put(route, name)
    return _checked(after, expected)


def remove_peer(text: str, name: str, *, from_routes: bool = False) -> str:
    """The text without a [[peer]] and the comments that belong to it; `from_routes` takes its name out of routes too.

    Comments belong to it that stand directly above its header or among its keys, and behind its last key those that
    show keys of a peer. The others stay.

    Raises:
        EditError: there is no such peer, a route names it, or the text has a form that only a person can change.
    """
    said = _read(text)
    _known(said, "peer", [name])
    named = {r["name"]: keys for r in said.get("route", []) if (keys := _naming(r, name))}
    if named and not from_routes:
        where = ", ".join(f"{route} ({' and '.join(keys)})" for route, keys in named.items())
        raise EditError(f"the peer {name} is named by the route {where}: --from-routes removes it there too")
    for route in said.get("route", []):
        if route.get("from_peers") == [name]:
            raise EditError(
                f"the route {route['name']} takes studies from the peer {name} only, and without it would take them "
                "from everybody: change its from_peers, or remove the route, first"
            )
    after = text
    for route in named:
        after = _in_route(after, route, lambda r: _take_out(r, name))
    after = _without_section(after, "peer", _names(said, "peer").index(name))
    expected = said | {"peer": [p for p in said["peer"] if p["name"] != name]}
    for route in expected.get("route", []):
        _take_out(route, name)
    if not expected["peer"]:
        del expected["peer"]
    return _checked(after, expected)


def _read(text: str) -> Values:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EditError(f"not TOML: {error}") from None


def _checked(text: str, expected: Values) -> str:
    try:
        if tomllib.loads(text) == expected:
            return text
    except tomllib.TOMLDecodeError:
        pass
    raise EditError("this file has a form that only a person can change: nothing was changed")


def _names(said: Values, table: str) -> list[str]:
    return [str(one.get("name", "")) for one in said.get(table, [])]


def _known(said: Values, table: str, names: Sequence[str]) -> None:
    have = _names(said, table)
    if unknown := [n for n in names if n not in have]:
        raise EditError(f"there is no [[{table}]] named {', '.join(unknown)} (have: {', '.join(have) or 'none'})")


def _naming(route: Values, peer: str) -> list[str]:
    return [key for key in ("deliver_to", "from_peers") if peer in route.get(key, [])]


def _put(route: Any, peer: str) -> None:
    if "deliver_to" not in route:
        route["deliver_to"] = []
    if peer not in route["deliver_to"]:
        route["deliver_to"].append(peer)


def _take_out(route: Any, peer: str) -> None:
    for key in _naming(route, peer):
        route[key].remove(peer)


# --- lines -----------------------------------------------------------------------------------------------------------


def _lines(text: str) -> list[str]:
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _sections(lines: Sequence[str]) -> Iterator[Section]:
    """The tables of a file, in order.

    What looks like a header is one only where what stands since the last one is whole: in a text or an array of several
    lines it is not.
    """
    found: list[tuple[str, int]] = []
    since = 0
    for i, line in enumerate(lines):
        match = HEADER.fullmatch(line)
        if match and _is_whole("".join(lines[since:i])):
            since = i
            table, dot, _ = re.sub(r"[\"' \t]", "", match[1]).partition(".")
            if not (dot and found and found[-1][0] == table):
                found.append((table, i))
    limits = [*(first for _, first in found), len(lines)][1:]
    for (table, first), limit in zip(found, limits, strict=True):
        end = max(i for i in range(first, limit) if i == first or _says(lines[i])) + 1
        yield Section(table, first, end)


def _is_whole(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _says(line: str) -> bool:
    """Whether a line is more than a comment or nothing."""
    return bool(line.strip()) and not _is_comment(line)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _parts(line: str) -> bool:
    """Whether a comment belongs to nothing above it: a rule across the file, or a table that is only shown."""
    return bool(RULE.match(line.lstrip()) or HIDDEN_HEADER.match(line.lstrip()))


def _whole(lines: Sequence[str], section: Section) -> tuple[int, int]:
    """A section's lines with the comments that belong to it."""
    start = section.first
    while start and _is_comment(lines[start - 1]) and not _parts(lines[start - 1]):
        start -= 1
    following = next((s for s in _sections(lines) if s.first > section.first), None)
    limit = len(lines) if following is None else following.first
    while following and limit > section.end and _is_comment(lines[limit - 1]) and not _parts(lines[limit - 1]):
        limit -= 1  # they lead what follows
    end = section.end
    while end < limit and _is_comment(lines[end]) and not _parts(lines[end]):
        end += 1
    while paragraph := _paragraph(lines, end, limit):
        block = lines[paragraph[0] : paragraph[1]]
        keys = {match[1] for line in block if (match := HIDDEN_KEY.match(line.lstrip()))}
        if any(map(_parts, block)) or not keys & set(Peer.model_fields):
            break
        end = paragraph[1]
    return start, end


def _paragraph(lines: Sequence[str], start: int, limit: int) -> tuple[int, int] | None:
    """The next comments behind blank lines."""
    while start < limit and not lines[start].strip():
        start += 1
    end = start
    while end < limit and lines[end].strip():
        end += 1
    return (start, end) if end > start else None


def _with_section(text: str, table: str, values: Mapping[str, object]) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    made = tomlkit.table()
    for key, value in values.items():
        made.add(key, value)
    tables = tomlkit.aot()
    tables.append(made)
    block = tomlkit.document().add(table, tables).as_string().replace("\n", newline)
    lines = _lines(text)
    others = [s for s in _sections(lines) if s.table == table]
    at = _whole(lines, others[-1])[1] if others else len(lines)
    before, behind = "".join(lines[:at]), "".join(lines[at:])
    if not before:
        return block + behind
    if not before.endswith("\n"):  # nor will the new end be a line's
        return before + 2 * newline + block.removesuffix(newline)
    return before + newline + block + behind


def _without_section(text: str, table: str, number: int) -> str:
    lines = _lines(text)
    start, end = _whole(lines, _numbered(lines, table, number))
    before, gone, behind = lines[:start], lines[start:end], lines[end:]
    if before and not before[-1].strip() and not _would_lead(before[:-1], behind):
        before.pop()
    elif not before and behind and not behind[0].strip():
        behind.pop(0)
    kept = "".join(before)
    if not gone[-1].endswith("\n"):
        kept = kept.removesuffix("\n").removesuffix("\r")
    return kept + "".join(behind)


def _would_lead(before: Sequence[str], behind: Sequence[str]) -> bool:
    """Whether comments at the end of one part would lead the next one, were there no blank line between them."""
    if not before or not behind or not behind[0].strip():
        return False
    return _is_comment(before[-1]) and not _parts(before[-1]) and not _parts(behind[0])


def _in_route(text: str, name: str, change: Callable[[Any], None]) -> str:
    """The text with one route's section changed in place."""
    lines = _lines(text)
    found = _numbered(lines, "route", _names(_read(text), "route").index(name))
    parsed = tomlkit.parse("".join(lines[found.first : found.end]))
    change(parsed["route"][0])
    return "".join([*lines[: found.first], tomlkit.dumps(parsed), *lines[found.end :]])


def _numbered(lines: Sequence[str], table: str, number: int) -> Section:
    found = [s for s in _sections(lines) if s.table == table]
    if len(found) != len(_read("".join(lines))[table]):
        raise EditError(f"write each {table} as [[{table}]] and in one piece: only then can a command change it")
    return found[number]
