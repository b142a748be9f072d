"""The example file and the schema say the same, in both directions."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from config.ray import Ray
from config.settings import (
    EXAMPLE,
    TLS,
    Deliver,
    Infer,
    Listener,
    Log,
    Node,
    Peer,
    Retention,
    Route,
    Section,
    Settings,
    Settle,
    Web,
)
from config.shared import Database, SharedSpool
from config.watch import Alarm, Audit, Canary, Metrics
from node.pipeline.plan import plan

SECTIONS: dict[str, type[Section]] = {
    "node": Node,
    "database": Database,
    "spool": SharedSpool,
    "listener": Listener,
    "settle": Settle,
    "tls": TLS,
    "peer": Peer,
    "route": Route,
    "infer": Infer,
    "ray": Ray,
    "deliver": Deliver,
    "retention": Retention,
    "log": Log,
    "web": Web,
    "metrics": Metrics,
    "alarm": Alarm,
    "canary": Canary,
    "audit": Audit,
}


@dataclass
class Shown:
    """What the example shows of one section: values that are given, and values behind a `#`."""

    given: dict[str, Any] = field(default_factory=dict)
    hidden: dict[str, Any] = field(default_factory=dict)
    explained: set[str] = field(default_factory=set)


def shown() -> dict[str, Shown]:
    sections: dict[str, Shown] = {}
    section, prose = "", False
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"#?\[+(\w+)\]+", line):
            section = header[1]
            sections.setdefault(section, Shown())
        elif pair := re.fullmatch(r"(#?)(\w+) = (.+)", line):
            place = sections[section].hidden if pair[1] else sections[section].given
            place[pair[2]] = tomllib.loads(f"value = {pair[3]}")["value"]
            if prose:
                sections[section].explained.add(pair[2])
        else:
            assert line in ("", "#") or line.startswith("# "), line
        prose = line.startswith("# ") or (prose and line != "")
    return sections


def test_every_section_of_the_schema_is_shown_and_no_other() -> None:
    assert set(shown()) == set(SECTIONS) == set(Settings.model_fields)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_is_shown_and_no_other(name: str) -> None:
    section = shown()[name]
    assert set(section.given) | set(section.hidden) == set(SECTIONS[name].model_fields)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_value_behind_a_hash_is_the_default(name: str) -> None:
    for key, value in shown()[name].hidden.items():
        default = SECTIONS[name].model_fields[key].default
        if default is PydanticUndefined:
            assert key in shown()[name].given, f"{name}.{key} has no default, so it must be set"
            continue
        if default is None:
            continue
        assert value == (str(default) if isinstance(default, Path) else default), f"{name}.{key}"


@pytest.mark.parametrize("name", SECTIONS)
def test_a_value_that_differs_from_the_default_shows_the_default_too(name: str) -> None:
    section = shown()[name]
    for key, value in section.given.items():
        default = SECTIONS[name].model_fields[key].default
        if default not in (PydanticUndefined, None, value) and not (
            name == "peer" and key in ("ae_title", "host", "may", "networks")
        ):
            assert key in section.hidden, f"{name}.{key}"


@pytest.mark.parametrize("name", sorted(set(SECTIONS) - {"peer", "route"}))
def test_every_key_has_its_reason(name: str) -> None:
    section = shown()[name]
    assert section.explained == set(section.given) | set(section.hidden)


def test_a_time_says_its_unit() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for key, word in (("_seconds", "second"), ("_hours", "hour"), ("_days", "day"), ("_mb", "megabyte")):
        for name in re.findall(rf"^#?(\w+{key}) = ", text, flags=re.MULTILINE):
            paragraph = next(p for p in text.split("\n\n") if re.search(rf"^#?{name} = ", p, flags=re.MULTILINE))
            assert word in paragraph.lower() or name == "retry_cap_seconds", name


def test_the_example_can_be_loaded_as_it_is() -> None:
    settings = Settings.load(EXAMPLE)
    assert [p.name for p in settings.peer] == ["pacs", "xray-room-1"]
    assert settings.peer[0].admits("10.1.2.3")
    assert not settings.peer[0].admits("10.1.2.4")
    assert settings.peer[1].admits("10.1.7.21")
    assert [(r.name, r.bundle) for r in settings.route] == [
        ("chest-findings", "chest-findings"),
        ("chest-abnormal", "chest-abnormal"),
    ]
    for route in settings.route:
        assert route.mode == "live"
        assert route.when == {"Modality": ["CR", "DX"]}
        assert route.deliver_to == ["pacs"]


def test_the_example_routes_to_bundles_that_ship() -> None:
    settings = Settings.load(EXAMPLE)
    assert [planned.bundle for planned in plan(settings)] == ["chest-findings@1.0.0", "chest-abnormal@1.0.0"]


def test_the_example_is_valid_with_every_line_that_is_behind_a_hash(tmp_path: Path) -> None:
    # A key that is set and also shown with its default keeps what is set.
    lines: list[str] = []
    uncommented = re.compile(r"#(\w+ = .+|\[tls\]|\[\[peer\]\])")
    source = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for at, line in enumerate(source):
        match = uncommented.fullmatch(line)
        following = source[at + 1] if at + 1 < len(source) else ""
        if line.startswith(("#token_file", "#scratch_dir")):
            continue  # in place of user and password_file, and of bucket
        if match and not following.startswith(match[1].split(" = ")[0] + " ="):
            lines.append(match[1])
        else:
            lines.append(line)
    path = tmp_path / "overread.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    settings = Settings.load(path)
    assert settings.peer[0].settle == Settle(quiet_seconds=120)
    assert settings.peer[2].url == "https://pacs.hospital/dicom-web"
    assert settings.infer == Settings.load(EXAMPLE).infer


def test_a_route_that_is_only_spoken_of_is_valid_too(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    spoken = "\n".join(line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   "))
    path = tmp_path / "overread.toml"
    path.write_text(f"{text}\n{spoken}\n", encoding="utf-8")
    settings = Settings.load(path)
    assert (settings.route[-1].name, settings.route[-1].frames) == ("body-part", "middle")
    assert plan(settings)
