"""The settings: one TOML file, read once, frozen, unknown keys refused.

Every error names the file, the key, the value and what is allowed. `OVERREAD_SECTION__KEY` environment variables
override single values. Nothing here knows bundles or sockets: what needs them is checked by `overread check`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from config import problems
from config.listener import TLS as TLS
from config.listener import Listener as Listener
from config.peer import Peer as Peer
from config.peer import Section as Section
from config.peer import Settle as Settle
from config.ray import Ray
from config.route import Gate as Gate
from config.route import Route as Route
from config.shared import Database, SharedSpool
from config.values import AETitle, Devices, Text
from config.values import Conditions as Conditions
from config.watch import Alarm, Audit, Canary, Metrics
from config.web import Web as Web

FILE_NAME = "overread.toml"
DATABASE = "overread.db"
EXAMPLE = Path(__file__).with_name("node.example.toml")
ENVIRONMENT = "OVERREAD_"
MOST_AT_ONCE = 256

T = TypeVar("T", bound=BaseModel)


class SettingsFileError(ValueError):
    """The settings file is missing, not TOML, or holds values that are not allowed."""


class Node(Section):
    ae_title: AETitle = "OVERREAD"
    data_dir: Path = Path("overread-data")
    bundle_dirs: list[Path] = []
    organisation: Text = ""


class Infer(Section):
    engine: Literal["local", "ray"] = "local"
    device: Devices = ["auto"]
    batch: int = Field(default=8, ge=1, le=MOST_AT_ONCE)
    threads: int = Field(default=0, ge=0, le=256)
    deadline_seconds: float = Field(default=300, gt=0)
    lease_seconds: float = Field(default=600, gt=0)
    attempts: int = Field(default=3, ge=1)
    pixel_budget_mb: int = Field(default=512, ge=1)

    @model_validator(mode="after")
    def _lease_outlasts(self) -> Infer:
        if self.lease_seconds <= self.deadline_seconds:
            raise ValueError(
                f"lease_seconds = {self.lease_seconds:g} must be more than deadline_seconds = "
                f"{self.deadline_seconds:g}, or a job that still runs is given to another worker"
            )
        return self


class Deliver(Section):
    retry_base_seconds: float = Field(default=5, gt=0)
    retry_cap_seconds: float = Field(default=900, gt=0)
    give_up_hours: float = Field(default=72, gt=0)
    hold_seconds: float = Field(default=10, ge=0)
    proof_hours: float = Field(default=1, gt=0)
    timeout_seconds: float = Field(default=30, gt=0, le=86400)

    @model_validator(mode="after")
    def _cap_is_above_base(self) -> Deliver:
        if self.retry_cap_seconds < self.retry_base_seconds:
            raise ValueError(
                f"retry_cap_seconds = {self.retry_cap_seconds:g} must not be less than retry_base_seconds = "
                f"{self.retry_base_seconds:g}"
            )
        return self


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
    database: Database = Database()
    spool: SharedSpool = SharedSpool()
    listener: Listener = Listener()
    tls: TLS | None = None
    settle: Settle = Settle()
    peer: list[Peer] = []
    route: list[Route] = []
    infer: Infer = Infer()
    ray: Ray = Ray()
    deliver: Deliver = Deliver()
    retention: Retention = Retention()
    log: Log = Log()
    web: Web = Web()
    metrics: Metrics = Metrics()
    alarm: Alarm = Alarm()
    canary: Canary = Canary()
    audit: Audit = Audit()
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """Where they were read from."""
        return self._file

    def of(self, file: Path | None) -> Settings:
        """These, as read from that file."""
        self._file = file
        return self

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
    def _rows_and_files_go_together(self) -> Settings:
        if self.database.password_file and not self.database.url:
            raise ValueError("database.password_file: needs database.url")
        if self.database.url and not (self.spool.dir or self.spool.bucket):
            raise ValueError(
                "database.url: hosts that share rows share the files that they speak of: add [spool] dir = a "
                "folder that every host of this node sees, or bucket = one that they all may use"
            )
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> Settings:
        wrong = [
            f"{what}: two of them are named {', '.join(twice)}"
            for what, names in (("peer", [p.name for p in self.peer]), ("route", [r.name for r in self.route]))
            if (twice := sorted({name for name in names if names.count(name) > 1}))
        ]
        for i, route in enumerate(self.route):
            for key, *may in (("deliver_to", "receive"), ("from_peers", "send", "query")):
                allowed = {p.name for p in self.peer if set(may) & set(p.may)}
                if unknown := sorted(set(getattr(route, key)) - allowed):
                    have, what = ", ".join(sorted(allowed)) or "none", '" or "'.join(may)
                    wrong.append(f'route[{i}].{key} = {unknown}: no such peer that may "{what}" (have: {have})')
        wrong += self._unwanted_results()
        wrong += self._contradicted_tls()
        if self.infer.engine == "ray":
            wrong += self.ray.contradicted(self.infer.device, self.infer.deadline_seconds)
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _unwanted_results(self) -> list[str]:
        """Destinations that want nothing of what a route makes."""
        wrong = []
        for i, route in enumerate(self.route):
            for peer in filter(None, map(self.peer_named, route.deliver_to)):
                if peer.results and not set(peer.results) & set(route.results):
                    wrong.append(
                        f"route[{i}].deliver_to: {peer.name} takes results = {peer.results}, and this route makes "
                        f"{route.results}: nothing would go there"
                    )
        return wrong

    def _contradicted_tls(self) -> list[str]:
        if self.tls is None:
            return [
                f"peer[{i}] ({p.name}): {'tls = true' if p.tls else 'fingerprint'} needs the section [tls]"
                for i, p in enumerate(self.peer)
                if p.tls or p.fingerprint
            ]
        wrong = []
        if self.tls.plain and self.tls.port == self.listener.port:
            wrong.append(f"tls.port = {self.tls.port} is listener.port too: TLS and plain need a port each")
        if not self.tls.plain:
            wrong += [
                f"peer[{i}] ({p.name}): tls = false, but nobody may send in plain (tls.plain = false)"
                for i, p in enumerate(self.peer)
                if p.tls is False and "send" in p.may
            ]
        return wrong

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read and check one settings file.

        Raises:
            SettingsFileError: every problem of the file, one line each.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise SettingsFileError(f"{path}: no such file (make one with `overread init`)") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsFileError(f"{path}: cannot be read: {error}") from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Settings:
        """Check what a settings file says, or is about to say. Relative folders are taken from the file's own folder.

        Raises:
            SettingsFileError: every problem of the text, one line each.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsFileError(f"{path}: not TOML: {error}") from None
        if unknown := problems.unknown_variables(os.environ, cls, ENVIRONMENT):
            raise SettingsFileError("\n".join(unknown))
        try:
            settings = cls(**values)
        except ValidationError as error:
            given = problems.given_variables(os.environ, ENVIRONMENT)
            lines = problems.in_words(error, cls, file=str(path), variables=given)
            raise SettingsFileError("\n".join(lines)) from None
        except SettingsError as error:
            raise SettingsFileError(f"${ENVIRONMENT}...: {error}") from None
        home = path.absolute().parent
        node = settings.node.model_copy(
            update={
                "data_dir": home / settings.node.data_dir.expanduser(),
                "bundle_dirs": [home / folder.expanduser() for folder in settings.node.bundle_dirs],
            }
        )
        tls = settings.tls and _from(home, settings.tls, "certificate", "key", "authorities")
        peers = [_from(home, peer, "password_file", "token_file", "authorities") for peer in settings.peer]
        mail = settings.alarm.mail and _from(home, settings.alarm.mail, "password_file")
        around = {
            "database": _from(home, settings.database, "password_file"),
            "spool": _from(home, settings.spool, "dir", "scratch_dir"),
            "ray": _from(home, settings.ray, "token_file"),
            "web": _from(home, settings.web, "certificate", "key"),
            "metrics": _from(home, settings.metrics, "token_file"),
            "alarm": _from(home, settings.alarm, "token_file").model_copy(update={"mail": mail}),
            "audit": _from(home, settings.audit, "file", "authorities", "certificate", "key"),
        }
        return settings.model_copy(update={"node": node, "tls": tls, "peer": peers} | around).of(path.absolute())

    @property
    def at_once(self) -> int:
        """Jobs that a worker takes and images that it asks about at once: a batch, or one for each replica."""
        replicas = self.ray.replicas_max if self.infer.engine == "ray" else 1
        return min(self.infer.batch * replicas, MOST_AT_ONCE)

    @property
    def is_shared(self) -> bool:
        """Whether other hosts may work on the same rows."""
        return self.database.url is not None

    @property
    def database_at(self) -> Path | str:
        """The file or the URL that holds the rows."""
        return self.database.url or self.node.data_dir / DATABASE

    @property
    def spool_dir(self) -> Path:
        return self.spool.dir or self.node.data_dir / "spool"

    def uses_tls(self, peer: Peer) -> bool:
        """Whether this peer must use TLS, and is sent to with it: wherever the node has it, unless it says not."""
        if peer.url:
            return peer.url.startswith("https:")
        return self.tls is not None and peer.tls is not False

    def peer_named(self, name: str) -> Peer | None:
        return next((p for p in self.peer if p.name == name), None)

    def settle_for(self, peer: str) -> Settle:
        """When a study from this peer is complete: its own rule, and for what that leaves out the common one."""
        found = self.peer_named(peer)
        own = found.settle.model_dump(exclude_unset=True) if found and found.settle else {}
        return self.settle.model_copy(update=own)


def _from(home: Path, section: T, *keys: str) -> T:
    """A section whose relative files are taken from the settings' own folder."""
    files = {key: home / file.expanduser() for key in keys if (file := getattr(section, key)) is not None}
    return section.model_copy(update=files)


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
