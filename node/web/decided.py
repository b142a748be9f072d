"""One line in the log for each decision that a person or a program takes by the dashboard: by rows, never by names."""

from __future__ import annotations

import logging

from node.web.auth import Visitor

log = logging.getLogger(__name__)


def decided(who: Visitor, verb: str, **about: object) -> None:
    told = "".join(f" {key}={value}" for key, value in about.items())
    log.info("web.decided verb=%s%s account=%s", verb, told, who.account.name)
