"""The settings: one TOML file, read once, frozen, unknown keys refused.

Every error names the file, the key, the value and what is allowed. `OVERREAD_SECTION__KEY` environment variables
override single values. Nothing here knows bundles or sockets: what needs them is checked by `overread check`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

FILE_NAME = "overread.toml"
EXAMPLE = Path(__file__).with_name("node.example.toml")
ENVIRONMENT = "OVERREAD_"


class SettingsFileError(ValueError):
    """The settings file is missing, not TOML, or holds values that are not allowed."""


def _ae_title(value: str) -> str:
    # PS3.5 Table 6.2-1: AE is at most 16 characters of the default repertoire, no backslash, no control characters,
    # leading and trailing spaces not significant
    title = value.strip()
    if not title or len(title) > 16 or "\\" in title or not all(" " <= c <= "~" for c in title):
        raise ValueError("an AE title is 1 to 16 printable ASCII characters without backslash")
    return title


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", value):
        raise ValueError("a name is 1 to 64 of a-z 0-9 _ . - and starts with a letter or digit")
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError('a network is an address or a range such as "10.1.2.3" or "10.1.0.0/16"') from None


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, AfterValidator(_name)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
Conditions = dict[str, Annotated[list[str], BeforeValidator(_listed)]]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(Section):
    ae_title: AETitle = "OVERREAD"
    data_dir: Path = Path("overread-data")
    bundle_dirs: list[Path] = []
    organisation: str = Field(default="", max_length=64)


class Listener(Section):
    bind: str = "127.0.0.1"
    port: Port = 11112
    max_associations: int = Field(default=20, ge=1, le=200)
    fsync: Literal["instance", "none"] = "instance"
    accept_loss: bool = False
    reserve_mb: int = Field(default=1024, ge=0)
    instance_limit_mb: int = Field(default=2048, ge=1)
    network_timeout_seconds: float = Field(default=60, gt=0)

    @model_validator(mode="after")
    def _loss_is_named(self) -> Listener:
        if self.fsync == "none" and not self.accept_loss:
            raise ValueError('fsync = "none" answers success before the bytes are safe: add accept_loss = true')
        return self


class Settle(Section):
    quiet_seconds: float = Field(default=30, ge=0)
    released_quiet_seconds: float = Field(default=3, ge=0)


class Peer(Section):
    name: Name
    ae_title: AETitle
    host: str = ""
    port: Port | None = None
    networks: list[Network] = []
    may: list[Literal["send", "receive"]] = ["send", "receive"]
    prefer: Literal["compressed", "uncompressed"] = "compressed"
    settle: Settle | None = None
    proof: Literal["none"] = "none"

    @model_validator(mode="after")
    def _reachable(self) -> Peer:
        if "receive" in self.may and (not self.host or self.port is None):
            raise ValueError('a peer that may "receive" needs host and port (or may = ["send"])')
        return self

    def admits(self, address: str) -> bool:
        """Whether a connection from this address may be this peer.

        Without `networks` the peer's own host counts, when it is written as an address; a name does not identify
        anybody, so a peer named by host name needs `networks`.
        """
        try:
            here = ipaddress.ip_address(address)
            ranges = self.networks or [_network(self.host)]
        except ValueError:
            return False
        if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped:
            here = here.ipv4_mapped
        return any(here in ipaddress.ip_network(n) for n in ranges)


class Gate(Section):
    at_least: float = Field(ge=0, le=1)


class Route(Section):
    name: Name
    when: Conditions = {}
    unless: Conditions = {}
    from_peers: list[Name] = []
    bundle: str
    gate: Gate | None = None
    results: list[Literal["sr", "sc"]] = ["sr", "sc"]
    sc: Literal["always", "flagged", "never"] = "always"
    deliver_to: list[Name] = []
    mode: Literal["live", "shadow"] = "live"
    accept_failed_audit: bool = False
    accept_unaudited: bool = False

    @model_validator(mode="after")
    def _delivers(self) -> Route:
        if self.mode == "live" and not self.deliver_to:
            raise ValueError('a live route needs deliver_to = ["peer"] (or mode = "shadow")')
        return self


class Infer(Section):
    device: str = Field(default="auto", pattern=r"^(auto|cpu|gpu:\d+)$")
    batch: int = Field(default=8, ge=1, le=256)
    threads: int = Field(default=0, ge=0, le=256)
    deadline_seconds: float = Field(default=300, gt=0)
    lease_seconds: float = Field(default=600, gt=0)
    attempts: int = Field(default=3, ge=1)
    pixel_budget_mb: int = Field(default=512, ge=1)


class Deliver(Section):
    retry_base_seconds: float = Field(default=5, gt=0)
    retry_cap_seconds: float = Field(default=900, gt=0)
    give_up_hours: float = Field(default=72, gt=0)
    hold_seconds: float = Field(default=10, ge=0)
    timeout_seconds: float = Field(default=30, gt=0)


class Retention(Section):
    inputs_days: float = Field(default=30, ge=0)
    results_days: float = Field(default=365, ge=0)
    unrouted_hours: float = Field(default=24, ge=0)
    dead_days: float = Field(default=90, ge=0)


class Log(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    form: Literal["text", "json"] = "text"


class Settings(BaseSettings):
    """All settings. `Settings.load` reads a file; `Settings()` alone gives the defaults."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENVIRONMENT,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    node: Node = Node()
    listener: Listener = Listener()
    settle: Settle = Settle()
    peer: list[Peer] = []
    route: list[Route] = []
    infer: Infer = Infer()
    deliver: Deliver = Deliver()
    retention: Retention = Retention()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @model_validator(mode="after")
    def _names_agree(self) -> Settings:
        for what, names in (("peer", [p.name for p in self.peer]), ("route", [r.name for r in self.route])):
            twice = {n for n in names if names.count(n) > 1}
            if twice:
                raise ValueError(f"{what}: two of them are named {', '.join(sorted(twice))}")
        receivers = {p.name for p in self.peer if "receive" in p.may}
        peers = {p.name for p in self.peer}
        for i, route in enumerate(self.route):
            for key, allowed in (("deliver_to", receivers), ("from_peers", peers)):
                unknown = sorted(set(getattr(route, key)) - allowed)
                if unknown:
                    have = ", ".join(sorted(allowed)) or "none"
                    raise ValueError(f"route[{i}].{key} = {unknown}: no such peer here (have: {have})")
        return self

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read and check one settings file.

        Relative folders are taken from the file's own folder.

        Raises:
            SettingsFileError: every problem of the file, one line each.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsFileError(f"{path}: no such file (make one with `overread init`)") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsFileError(f"{path}: cannot be read: {error}") from None
        except tomllib.TOMLDecodeError as error:
            raise SettingsFileError(f"{path}: not TOML: {error}") from None
        problems = _unknown_variables(os.environ)
        if problems:
            raise SettingsFileError("\n".join(problems))
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise SettingsFileError("\n".join(f"{path}: {line}" for line in explain(error))) from None
        home = path.absolute().parent
        node = settings.node.model_copy(
            update={
                "data_dir": home / settings.node.data_dir,
                "bundle_dirs": [home / folder for folder in settings.node.bundle_dirs],
            }
        )
        return settings.model_copy(update={"node": node})

    def peer_named(self, name: str) -> Peer | None:
        return next((p for p in self.peer if p.name == name), None)

    def settle_for(self, peer: str) -> Settle:
        found = self.peer_named(peer)
        return found.settle if found and found.settle else self.settle


def find_file(given: Path | None) -> Path:
    """The settings file: the one given, `$OVERREAD_CONFIG`, the working directory's, or `/etc/overread/`'s.

    Raises:
        SettingsFileError: there is none.
    """
    named = given or (Path(os.environ["OVERREAD_CONFIG"]) if os.environ.get("OVERREAD_CONFIG") else None)
    if named:
        if not named.is_file():
            raise SettingsFileError(f"{named}: no such file (make one with `overread init`)")
        return named
    places = [Path.cwd() / FILE_NAME, Path("/etc/overread") / FILE_NAME]
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(p) for p in places)
    raise SettingsFileError(f"no settings file: looked for {looked} (make one with `overread init`)")


def explain(error: ValidationError) -> list[str]:
    """One line per problem: key, value, what is allowed."""
    lines = []
    for item in error.errors(include_url=False):
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]).lstrip(".")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: no such key (have: {', '.join(_keys(item['loc'][:-1]))})")
        elif item["type"] == "missing":
            lines.append(f"{key}: is missing")
        elif item["type"] == "value_error" and (not key or isinstance(item["input"], dict)):
            lines.append(f"{key}: {message}" if key else message)
        else:
            lines.append(f"{key} = {item['input']!r}: {message}")
    return lines


def _keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys that are allowed at a place of the settings tree."""
    model: type[BaseModel] = Settings
    for part in place:
        if isinstance(part, str):
            kind = model.model_fields[part].annotation
            options = [kind, *getattr(kind, "__args__", ())]
            model = next((k for k in options if isinstance(k, type) and issubclass(k, BaseModel)), model)
    return sorted(model.model_fields)


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """`OVERREAD_SECTION__KEY` variables that no setting answers to; a typing error there would be silent."""
    lines = []
    for name in sorted(environment):
        parts = name.removeprefix(ENVIRONMENT).lower().split("__")
        if not name.startswith(ENVIRONMENT) or len(parts) < 2:
            continue
        field: Any = Settings.model_fields.get(parts[0])
        section = field.annotation if field else None
        if not (isinstance(section, type) and issubclass(section, Section)):
            lines.append(f"${name}: no such section (have: {', '.join(_keys(()))})")
        elif parts[1] not in section.model_fields:
            lines.append(f"${name}: no such key (have: {', '.join(sorted(section.model_fields))})")
    return lines
