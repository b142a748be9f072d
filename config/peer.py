"""One system that the node talks to: who it is, what it may do, and how it is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from config.values import AETitle, Distinct, Fingerprint, Name, Network, Port, Url, is_address, within


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Settle(Section):
    quiet_seconds: float = Field(default=30, ge=0)
    released_quiet_seconds: float = Field(default=3, ge=0)
    expected_seconds: float = Field(default=300, ge=0)


DICOM_KEYS = ("ae_title", "host", "port", "networks", "prefer", "tls", "fingerprint", "settle", "retrieve")
WEB_KEYS = ("api", "user", "password_file", "token_file", "authorities")


class Peer(Section):
    name: Name
    ae_title: AETitle = ""
    host: str = ""
    port: Port | None = None
    networks: list[Network] = []
    may: Distinct[Literal["send", "receive", "query"]] = ["send", "receive"]
    prefer: Literal["compressed", "uncompressed"] = "compressed"
    tls: bool | None = None
    fingerprint: Fingerprint | None = None
    settle: Settle | None = None
    results: Distinct[Literal["sr", "sc", "gsps", "kos", "pdf"]] = []
    proof: Literal["auto", "commitment", "find", "none"] = "auto"
    retrieve: Literal["auto", "get", "move"] = "auto"
    url: Url | None = None
    api: Literal["dicomweb", "orthanc"] = "dicomweb"
    user: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    authorities: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_url_it_never_sends(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "url" not in values:
            return values
        return {"may": ["query" if values.get("api") == "orthanc" else "receive"]} | values

    @model_validator(mode="after")
    def _by_one_protocol(self) -> Peer:
        given = {key for key, field in type(self).model_fields.items() if getattr(self, key) != field.default}
        if self.url is None:
            if web := [key for key in WEB_KEYS if key in given]:
                raise ValueError(f"{', '.join(web)}: only for a peer with url")
            if not self.ae_title:
                raise ValueError("ae_title is missing (or url, where results go by STOW-RS)")
            return self
        if dicom := [key for key in DICOM_KEYS if key in given]:
            raise ValueError(f"{', '.join(dicom)}: not for a peer with url")
        if "send" in self.may:
            raise ValueError('a peer with url may "receive" and "query", and not "send"')
        if self.api == "orthanc" and "receive" in self.may:
            raise ValueError(
                'with api = "orthanc" a peer may only "query": results go by STOW-RS, to a DICOMweb service'
            )
        if self.proof == "commitment":
            raise ValueError('proof = "commitment" is not for a peer with url: "find" asks by QIDO-RS')
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        if self.user is not None and self.token_file is not None:
            raise ValueError("either user with password_file, or token_file")
        if self.authorities and not self.url.startswith("https:"):
            raise ValueError("authorities: its url is not https")
        return self

    @model_validator(mode="after")
    def _reachable(self) -> Peer:
        if "receive" in self.may and not self.url and (not self.host or self.port is None):
            raise ValueError('a peer that may "receive" needs host and port (or may = ["send"])')
        if "query" in self.may and not self.url and (not self.host or self.port is None):
            raise ValueError('a peer that may "query" needs host and port, or url')
        if "send" in self.may and not self.networks and not is_address(self.host):
            raise ValueError(
                'a peer that may "send" needs networks = ["10.1.2.3"], or a host that is an address: a name does not '
                'say where it sends from (or may = ["receive"])'
            )
        return self

    @model_validator(mode="after")
    def _brings(self) -> Peer:
        if self.retrieve != "auto" and "query" not in self.may:
            raise ValueError(f'retrieve = "{self.retrieve}" is for a peer that may "query"')
        if self.retrieve == "move" and "send" not in self.may:
            raise ValueError('retrieve = "move": what the peer is told to move it sends, so add "send" to may')
        return self

    @model_validator(mode="after")
    def _certified(self) -> Peer:
        if self.fingerprint and self.tls is False:
            raise ValueError("a peer with tls = false shows no certificate: leave fingerprint out")
        return self

    def admits(self, address: str) -> bool:
        """Whether a connection from this address may be this peer.

        Without `networks` the peer's own host counts, if it is an address.
        """
        ranges = self.networks or ([self.host] if is_address(self.host) else [])
        return within(address, ranges)
