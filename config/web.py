"""The dashboard's settings: where it listens, by which names it is reached, how long a person stays logged in."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from config.peer import Section
from config.values import Address, Distinct, Network, Port


def _public(value: str) -> str:
    parts = urlsplit(value)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in value
    except ValueError:
        usable = False
    if not usable or parts.path.strip("/") or parts.query or parts.fragment or not all("!" <= c <= "~" for c in value):
        raise ValueError('public_url is a scheme, a host and perhaps a port, such as "https://overread.hospital"')
    return value.rstrip("/")


class Web(Section):
    bind: Address = "127.0.0.1"
    port: Port = 8090
    public_url: Annotated[str, AfterValidator(_public)] | None = None
    proxies: Distinct[Network] = []
    certificate: Path | None = None
    key: Path | None = None
    session_hours: float = Field(default=12, gt=0, le=720)
    idle_minutes: float = Field(default=60, gt=0, le=43200)
    edit_peers: bool = False

    @model_validator(mode="after")
    def _encrypted(self) -> Web:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if not ipaddress.ip_address(self.bind).is_loopback and not self.certificate and not self.public_url:
            raise ValueError(
                f'bind = "{self.bind}" would send passwords and names of patients in plain: add certificate and key, '
                'or public_url = "https://..." where a proxy in front of it does that'
            )
        return self

    @property
    def address(self) -> str:
        """What a person types into a browser."""
        if self.public_url:
            return self.public_url
        host = f"[{self.bind}]" if ":" in self.bind else self.bind
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"

    @property
    def encrypted(self) -> bool:
        """Whether browsers reach it by https, here or at a proxy."""
        return self.address.startswith("https:")
