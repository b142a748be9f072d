"""What watches the node: metrics, alarms, the canary, the audit trail. Each is a section of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from config.peer import Section
from config.values import Distinct, Port

SYSLOG_PORT = 6514
"""Registered for syslog over TLS (RFC 5425)."""


def _hook(value: str) -> str:
    parts = urlsplit(value)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.fragment or parts.username is not None or not all("!" <= c <= "~" for c in value):
        raise ValueError('a webhook is a http or https url, such as "https://ntfy.hospital/overread"')
    return value


def _syslog(value: str) -> str:
    parts = urlsplit(value)
    try:
        usable = parts.scheme == "tls" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    rest = parts.path or parts.query or parts.fragment or parts.username
    if not usable or rest or not all("!" <= c <= "~" for c in value):
        raise ValueError('syslog is a host and a port that speak TLS, such as "tls://audit.hospital:6514"')
    return value


def _mailbox(value: str) -> str:
    name, at, host = value.rpartition("@")
    if not (name and at and host) or not all("!" <= c <= "~" for c in value) or set(value) & set('<>,;:"()[]\\'):
        raise ValueError('an address is one mailbox such as "pacs-admin@hospital"')
    return value


Mailbox = Annotated[str, AfterValidator(_mailbox)]


class Metrics(Section):
    token_file: Path | None = None


class Mail(Section):
    host: str = Field(min_length=1)
    port: Port = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    sender: Mailbox
    to: Annotated[Distinct[Mailbox], Field(min_length=1)]
    user: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _known_there(self) -> Mail:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        if self.user is not None and self.tls == "none":
            raise ValueError('user: with tls = "none" the password would cross the network in plain')
        return self


class Alarm(Section):
    webhook: Annotated[str, AfterValidator(_hook)] | None = None
    token_file: Path | None = None
    mail: Mail | None = None
    after_seconds: float = Field(default=60, ge=0, le=86400)
    again_hours: float = Field(default=24, gt=0, le=720)

    @model_validator(mode="after")
    def _told_by(self) -> Alarm:
        if self.token_file and not self.webhook:
            raise ValueError("token_file: only for a webhook")
        return self


class Canary(Section):
    every_hours: float = Field(default=1, ge=0, le=168)


class Audit(Section):
    file: Path | None = None
    syslog: Annotated[str, AfterValidator(_syslog)] | None = None
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    queue: int = Field(default=100_000, ge=1000, le=10_000_000)

    @model_validator(mode="after")
    def _encrypted(self) -> Audit:
        given = [name for name in ("authorities", "certificate", "key") if getattr(self, name)]
        if given and not self.syslog:
            raise ValueError(f"{', '.join(given)}: only with syslog")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self

    @property
    def sinks(self) -> tuple[str, ...]:
        """Where messages go; none: there is no audit trail."""
        return tuple(name for name in ("file", "syslog") if getattr(self, name))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the syslog server."""
        parts = urlsplit(self.syslog or "")
        return parts.hostname or "", parts.port or SYSLOG_PORT
