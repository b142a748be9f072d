"""The first settings of a node: the example file with the site's three AE titles in the place of the invented ones."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, cast

import tomlkit

from config.edit import remove_peer
from config.settings import EXAMPLE, Settings
from config.values import is_address

PACS, MODALITY = "pacs", "xray-room-1"
"""What the example calls its two peers."""
PLACE = re.compile(r"(?P<ae_title>[^@]+)@(?P<host>[^@\s]+?)(?::(?P<port>\d+))?")


class NoPlace(ValueError):
    """A text that is no place of a peer; it says what one looks like."""


def begun(*, ae_title: str = "", pacs: str = "", modality: str = "", data_dir: str = "") -> str:
    """The text of a settings file. `pacs` is AE_TITLE@HOST:PORT, `modality` AE_TITLE@ADDRESS; what is empty stays as
    the example has it, but the invented modality goes where a PACS was named and no modality.

    Raises:
        NoPlace: pacs or modality is not in that form.
        pydantic.ValidationError: a value is not allowed.
    """
    text = EXAMPLE.read_text(encoding="utf-8")
    if pacs and not modality:
        text = remove_peer(text, MODALITY)
    document = cast(Any, tomlkit.parse(text))
    peers = {str(peer["name"]): peer for peer in document["peer"]}
    if ae_title:
        document["node"]["ae_title"] = ae_title
    if data_dir:
        document["node"]["data_dir"] = data_dir
    if pacs:
        found = _place(pacs, "--pacs", "AE_TITLE@HOST:PORT, such as PACS@10.1.2.3:104", port=True)
        peers[PACS]["ae_title"], peers[PACS]["host"], peers[PACS]["port"] = found
    if modality:
        title, address, _ = _place(modality, "--modality", "AE_TITLE@ADDRESS, such as XRAY1@10.1.7.21", port=False)
        peers[MODALITY]["ae_title"], peers[MODALITY]["networks"] = title, [address]
    if pacs and all(_is_here(place) for place in (pacs, modality) if place):
        document["listener"]["bind"] = "127.0.0.1"
    text = tomlkit.dumps(document)
    Settings(**document.unwrap())
    return text


def _place(text: str, option: str, form: str, *, port: bool) -> tuple[str, str, int]:
    found = PLACE.fullmatch(text.strip())
    if found is None or port != (found["port"] is not None):
        raise NoPlace(f"{option} {text}: write it as {form}")
    return found["ae_title"].strip(), found["host"], int(found["port"] or 0)


def _is_here(place: str) -> bool:
    """Whether a peer is on this machine: then nobody else need reach the node."""
    found = PLACE.fullmatch(place.strip())
    host = found["host"] if found else ""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
