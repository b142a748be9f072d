"""The kinds of values that settings have beyond plain numbers and words, each with what is allowed in words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

T = TypeVar("T")


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


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError('an address of this machine: "127.0.0.1" for itself only, "0.0.0.0" for all') from None


def _url(value: str) -> str:
    parts = urlsplit(value)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or not all("!" <= c <= "~" for c in value):
        raise ValueError('a url is the root of a DICOMweb service, such as "https://pacs.hospital/dicom-web"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("a url holds no user and no password here: use user with password_file, or token_file")
    return parts.scheme + value[len(parts.scheme) :].rstrip("/")


def _text(value: str) -> str:
    # PS3.5 Table 6.2-1: LO is at most 64 characters, no backslash, no control characters
    if len(value) > 64 or "\\" in value or not value.isprintable():
        raise ValueError("a text is at most 64 printable characters without backslash")
    return value.strip()


def _distinct(values: list[T]) -> list[T]:
    if len(set(values)) < len(values):
        raise ValueError("the same twice")
    return values


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|gpu:\d+", value):
        raise ValueError('a device is "auto", "cpu", or a numbered GPU such as "gpu:0"')
    return value


def _fingerprint(value: str) -> str:
    digits = value.lower().removeprefix("sha256").lstrip(":= ").removeprefix("fingerprint=").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons")
    return digits


def _frames(value: str) -> str:
    if not re.fullmatch(r"middle|every:[1-9][0-9]{0,3}", value):
        raise ValueError('frames is "middle" or "every:n", where n is 1 to 9999, such as "every:20"')
    return value


def within(address: str, networks: Iterable[str]) -> bool:
    """Whether an address lies in one of these networks; one of IPv4 that is written as one of IPv6 is one of IPv4."""
    here = ipaddress.ip_address(address)
    if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped:
        here = here.ipv4_mapped
    return any(here in ipaddress.ip_network(network) for network in networks)


def is_address(host: str) -> bool:
    """Whether a host is written as an IP address, not as a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


AETitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, AfterValidator(_name)]
Network = Annotated[str, AfterValidator(_network)]
Address = Annotated[str, AfterValidator(_address)]
Url = Annotated[str, AfterValidator(_url)]
Text = Annotated[str, AfterValidator(_text)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
Frames = Annotated[str, AfterValidator(_frames)]
Distinct = Annotated[list[T], AfterValidator(_distinct)]
Port = Annotated[int, Field(ge=1, le=65535)]
Devices = Annotated[
    list[Annotated[str, AfterValidator(_device)]],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    Field(min_length=1),
]
Conditions = dict[str, Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]]
