"""Section 4 of a statement, Networking (PS3.2 A.4): model, web services, interfaces, configuration; what the
application entity does stands in `entity`."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Peer, Settings
from node.admin.conformance.document import Section, Table, Tree
from node.admin.conformance.entity import entity
from node.admin.conformance.services import Resource, activities, resources, web_shelves
from node.network import rest
from node.pipeline.peers import place

PARAMETERS = ("node", "listener", "tls", "settle", "deliver", "retention")
"""The sections of the settings that bear on what peers see."""
QUIET = frozenset({"certificate", "key", "authorities", "bundle_dirs", "data_dir"})
"""Files and folders of this machine, which are nobody else's business."""


def networking(settings: Settings) -> Section:
    return Section(
        "Networking",
        (),
        (
            _model(settings),
            Section("AE Specifications", (), (entity(settings), *_web(settings))),
            _interfaces(settings),
            _configuration(settings),
        ),
    )


def _model(settings: Settings) -> Section:
    title = settings.node.ae_title
    flow = [f"peer --(C-STORE, C-ECHO{', N-ACTION' if settings.listener.commit else ''})--> {title}"]
    flow += [f"{title} --({a.name})--> {', '.join(a.peers)}" for a in activities(settings)]
    flow += [f"{title} --({r.service} {r.method} {r.path})--> {', '.join(r.peers)}" for r in resources(settings)]
    return Section(
        "Implementation Model",
        (),
        (
            Section("Application Data Flow", (Tree("Application data flow", tuple(flow)),)),
            Section(
                "Functional Definition of the Application Entity",
                (
                    f"{title} takes images by C-STORE, keeps them, waits until a study is complete, finds out by "
                    "their headers which of its models apply, runs them, and sends what they say to the peers of the "
                    "route, in the study that the images belong to. It is no archive: what it keeps, and for how "
                    "long, stands in [retention] of its settings.",
                ),
            ),
            Section(
                "Sequencing of Real-World Activities",
                (
                    "A study counts as complete when its associations were released and nothing came for "
                    f"{settings.settle.released_quiet_seconds:g} s, or when nothing came for "
                    f"{settings.settle.quiet_seconds:g} s, unless a peer has times of its own, or when a person says "
                    "so. An image that comes later makes a new revision, whose report names the one that it replaces.",
                ),
            ),
        ),
    )


def _web(settings: Settings) -> Iterator[Section]:
    asked = resources(settings)
    rest_only = ", ".join(peer.name for peer in web_shelves(settings, "orthanc"))
    if rest_only:
        yield Section(
            "Orthanc's REST, as User Agent",
            (
                f"{rest_only}: asked for studies by the interface of Orthanc, which is none of the Standard, when a "
                f"person brings studies (overread pull): {'; '.join(rest.REQUESTS)}.",
            ),
        )
    if asked:
        yield Section(
            "DICOMweb, as User Agent",
            (
                "No DICOMweb service is offered. Requests go to the url of a peer, over a connection that is kept, one "
                "object in each; redirects are not followed.",
                Table(
                    "Requests to DICOMweb services",
                    ("Service", "Method", "Path", "Query parameters", "Sent as", "Accepted", "When", "To"),
                    tuple(_request(one) for one in asked),
                ),
            ),
        )


def _request(one: Resource) -> tuple[str, ...]:
    return (
        one.service,
        one.method,
        one.path,
        ", ".join(one.query),
        one.sent_as,
        one.accepted,
        one.trigger,
        ", ".join(one.peers),
    )


def _interfaces(settings: Settings) -> Section:
    rows = []
    if settings.tls is None or settings.tls.plain:
        rows.append(("DICOM upper layer over TCP/IP", settings.listener.bind, str(settings.listener.port)))
    if settings.tls:
        rows.append(("DICOM upper layer over TLS", settings.listener.bind, str(settings.tls.port)))
    return Section(
        "Network Interfaces",
        (),
        (
            Section(
                "Physical Network Interface",
                (
                    "Whatever the operating system offers.",
                    Table("Ports that are listened on", ("Protocol", "Address", "Port"), tuple(rows)),
                ),
            ),
            Section("Additional Protocols", ("Host names of peers are resolved as the operating system does it.",)),
        ),
    )


def _configuration(settings: Settings) -> Section:
    title = settings.node.ae_title
    remote = tuple(_remote(peer, settings) for peer in settings.peer)
    head = ("Name", "Address", "Sends from", "May", "TLS", "Results", "Proof")
    return Section(
        "Configuration",
        (),
        (
            Section(
                "AE Title and Presentation Address Mapping",
                (
                    f"Local: {title}, also as the calling title to every peer.",
                    Table("Remote application entities and web services", head, remote)
                    if remote
                    else "Remote: none; this machine may associate under any title.",
                ),
            ),
            Section("Parameters", (Table("Parameters", ("Key", "Value"), tuple(_parameters(settings))),)),
        ),
    )


def _remote(peer: Peer, settings: Settings) -> tuple[str, ...]:
    sends = (", ".join(peer.networks) or peer.host) if "send" in peer.may else ""
    takes = (", ".join(peer.results) or "all that its routes make") if "receive" in peer.may else ""
    return (
        peer.name,
        place(peer),
        sends,
        ", ".join(peer.may),
        "yes" if settings.uses_tls(peer) else "no",
        takes,
        peer.proof if "receive" in peer.may else "",
    )


def _parameters(settings: Settings) -> Iterator[tuple[str, str]]:
    for name in PARAMETERS:
        section = getattr(settings, name)
        for key, value in section.model_dump(mode="json").items() if section else ():
            if key not in QUIET:
                yield f"{name}.{key}", str(value).lower() if isinstance(value, bool) else str(value)
