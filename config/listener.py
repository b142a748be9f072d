"""Whom the node listens to, and how: the sections [listener] and [tls]."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from config.peer import Section
from config.values import Address, Distinct, Network, Port


class Listener(Section):
    bind: Address = "127.0.0.1"
    port: Port = 11112
    max_associations: int = Field(default=20, ge=1, le=200)
    fsync: Literal["instance", "none"] = "instance"
    accept_loss: bool = False
    commit: bool = False
    reserve_mb: int = Field(default=1024, ge=0)
    instance_limit_mb: int = Field(default=2048, ge=1)
    network_timeout_seconds: float = Field(default=60, gt=0, le=86400)
    pdu_seconds: float = Field(default=30, gt=0, le=86400)
    association_limit_mb: int = Field(default=0, ge=0)
    proxy_from: Distinct[Network] = []
    drain_seconds: float = Field(default=10, ge=0, le=3600)

    @model_validator(mode="after")
    def _not_everybody_is_believed(self) -> Listener:
        if wide := [network for network in self.proxy_from if network.endswith("/0")]:
            raise ValueError(
                f'proxy_from = ["{wide[0]}"]: whoever sends could say that he is any other; name the balancers only'
            )
        return self

    @model_validator(mode="after")
    def _loss_is_named(self) -> Listener:
        if self.fsync == "none" and not self.accept_loss:
            raise ValueError('fsync = "none" answers success before the bytes are safe: add accept_loss = true')
        if self.fsync == "none" and self.commit:
            raise ValueError('commit = true speaks of what is on stable storage: it needs fsync = "instance"')
        return self


class TLS(Section):
    port: Port = 2762
    certificate: Path = Path("tls/node.crt")
    key: Path = Path("tls/node.key")
    authorities: Path = Path("tls/authorities.crt")
    plain: bool = False
