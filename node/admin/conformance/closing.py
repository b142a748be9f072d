"""What stands last in a statement: media, transformation, character sets, security (PS3.2 A.5 to A.8)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from config.settings import Settings
from node.admin.conformance.document import Block, Section, Table
from node.network import tls
from node.results.evidence import SINGLE_SETS, UTF_8

CIPHERS = "Cipher suites"


def media() -> Section:
    return Section("Media Interchange", ("Not supported.",))


def transformation() -> Section:
    return Section("Transformation of DICOM to CDA", ("Not supported.",))


def character_sets() -> Section:
    kept = ", ".join(sorted(SINGLE_SETS - {UTF_8}))
    return Section(
        "Support of Character Sets",
        (
            "What is received is kept in its own character set, whichever that is.",
            f"A result is written in the set of the image that it is about where that is a single one without code "
            f"extensions and holds every text ({kept}), and otherwise in {UTF_8}.",
        ),
    )


def security(settings: Settings) -> Section:
    return Section(
        "Security",
        (),
        (
            Section("Security Profiles", tuple(_profiles(settings))),
            Section(
                "Association Level Security",
                (
                    "Who associates is compared with the peers of the settings: called AE title, calling AE title, "
                    "address, and with TLS the certificate, which may be pinned. See the rejections of association "
                    "requests.",
                ),
            ),
            Section(
                "Application Level Security",
                (
                    "No digital signatures, no encryption of data sets, no de-identification. Results carry no name of "
                    "a patient in pixels or on pages.",
                    _audit(settings),
                ),
            ),
        ),
    )


def _audit(settings: Settings) -> str:
    if not settings.audit.sinks:
        return "Audit trail: off; the settings name no place for it ([audit])."
    words = {"file": "to a file of this machine", "syslog": f"by syslog over TLS (RFC 5425) to {settings.audit.syslog}"}
    where = " and ".join(words[sink] for sink in settings.audit.sinks)
    return f"Audit trail: messages as PS3.15 A.5 has them go {where}."


def _profiles(settings: Settings) -> Iterator[Block]:
    if settings.tls is None:
        yield "No secure transport profile is in use: there is no section [tls] in the settings."
        return
    context = tls.profile(ssl.PROTOCOL_TLS_SERVER)
    yield (
        "Non-downgrading BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12), in both "
        f"directions, on port {settings.tls.port}. Both sides show a certificate. The oldest version is "
        f"{context.minimum_version.name.replace('_', ' ')}; what comes in plain is "
        f"{'taken from peers with tls = false' if settings.tls.plain else 'not taken'}."
    )
    rows = tuple((str(c["name"]), str(c["protocol"])) for c in context.get_ciphers())
    yield Table(CIPHERS, ("Suite", "Since version"), rows)
