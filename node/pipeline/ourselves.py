"""The node as its own sender: it may associate with itself, for C-ECHO and for test objects, and nobody else may so.

Whoever calls with the node's own AE title from the node's own address is the node, or somebody who works on its
machine. A test object says so in its patient; what else comes this way is refused.
"""

from __future__ import annotations

import ipaddress

from config.settings import Settings
from node.domain import Received
from node.network.incoming import Requestor
from node.storage.trials import PATIENT_ID

PATIENT_NAME = "OVERREAD^TEST"


def is_this_machine(address: str) -> bool:
    """Whether an address is one of loopback."""
    here = ipaddress.ip_address(address)
    if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped:
        here = here.ipv4_mapped
    return here.is_loopback


def address_of(settings: Settings) -> str:
    """Where the node reaches its own listener."""
    bind = ipaddress.ip_address(settings.listener.bind)
    if bind.is_unspecified:
        return "127.0.0.1" if bind.version == 4 else "::1"
    return str(bind)


def is_ourselves(requestor: Requestor, settings: Settings) -> bool:
    """Whether the node itself asks: by its own AE title, from loopback, or from the one address that it listens on,
    which no other machine can call from."""
    titled = requestor.calling_ae_title == settings.node.ae_title
    return titled and (is_this_machine(requestor.address) or requestor.address == settings.listener.bind)


def is_test(received: Received) -> bool:
    """Whether an object says that it is one of a test."""
    return (
        received.patient_id == PATIENT_ID and received.identification.get("PatientName", "").rstrip("^") == PATIENT_NAME
    )
