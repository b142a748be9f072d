"""Peers: who they are, when each last answered, what it takes, and the button that proves the round trip.

They are added, removed and taken up here only where the settings say so and their file may be written; otherwise the
page shows the command to type.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from config.edit import add_peer, remove_peer
from config.rewrite import is_writable, rewrite
from config.settings import SettingsFileError
from node.admin import taking_up
from node.admin.destinations import destinations
from node.admin.echo import ask, can_be_asked, in_words
from node.admin.introduce import introduction
from node.errors import NotRunning
from node.storage import echoes, roles
from node.storage.echoes import Echo
from node.web import view
from node.web.auth import Admin, Operator, Viewer
from node.web.decided import decided
from node.web.desk import At, Desk, peer_of
from node.web.live import Live

router = APIRouter(prefix="/peers")

TAKEN_UP = "It is in force once it was taken up, below or with `overread reload`."
BEGINS_SECONDS = 5.0
SHOWN_SECONDS = 900.0
"""How long it is shown what came of the last time."""
Text = Annotated[str, Form(max_length=256)]


@router.get("")
def page(request: Request, desk: At, who: Viewer) -> Response:
    return _listed(request, desk, who, {})


def _listed(request: Request, desk: Desk, who: Viewer, form: dict[str, str], *, wrong: str = "") -> Response:
    filled = dict.fromkeys(("name", "ae_title", "host", "port", "network"), "") | form
    return view.page(
        request,
        "peers.html",
        who,
        status=422 if wrong else 200,
        # as they are now: a form may have changed them
        peers=Markup(_table(desk, 0)),  # noqa: S704
        taken=Markup(_taking_up(desk, 0)),  # noqa: S704
        can_take_up=_can_take_up(desk),
        why_not=_why_not(desk),
        form=filled,
        wrong=wrong,
    )


@router.post("")
def add(
    request: Request,
    desk: At,
    who: Admin,
    name: Text,
    ae_title: Text = "",
    host: Text = "",
    port: Text = "",
    network: Text = "",
    route: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Write a peer into the settings file; what is wrong with it is said in the words of the settings."""
    file = _file(desk)
    values: dict[str, Any] = {"name": name.strip(), "ae_title": ae_title.strip(), "host": host.strip()}
    values |= {
        "port": int(port) if port.strip().isdigit() else port.strip(),
        "networks": network.replace(",", " ").split(),
    }
    values = {key: value for key, value in values.items() if value not in ("", [])}
    if not host.strip():
        values["may"] = ["send"]
    try:
        settings = rewrite(file, lambda text: add_peer(text, values, to_routes=route or []))
    except SettingsFileError as error:
        form = {"name": name, "ae_title": ae_title, "host": host, "port": port, "network": network}
        return _listed(request, desk, who, form, wrong=str(error).replace(f"{file}: ", ""))
    decided(who, "add-peer", peer=values["name"])
    peer = settings.peer_named(str(values["name"]))
    assert peer is not None, "it was written and read again"
    return view.back("/peers", f"{TAKEN_UP} On the other side: {'; '.join(introduction(peer, settings))}.")


@router.post("/take-up")
def take_up(desk: At, who: Admin) -> Response:
    """Have the node take its settings file up, this dashboard too: it is restarted, and the page waits for it."""
    _file(desk)
    decided(who, "take-up")
    try:
        taking_up.tell(desk.settings.node.data_dir, seconds=BEGINS_SECONDS)
    except NotRunning as error:
        return view.back("/peers", f"Not taken up yet: {error}.")
    return RedirectResponse("/peers", 303)


@router.post("/{name}/remove")
def remove(desk: At, who: Admin, name: str) -> Response:
    file = _file(desk)
    try:
        rewrite(file, lambda text: remove_peer(text, name, from_routes=False))
    except SettingsFileError as error:
        return view.back("/peers", str(error).replace(f"{file}: ", ""))
    decided(who, "remove-peer", peer=name)
    return view.back("/peers", f"{name} was taken out of the settings. {TAKEN_UP}")


@router.post("/{name}/echo")
def echo(desk: At, who: Operator, name: str) -> Response:
    peer = peer_of(desk, name)
    if not can_be_asked(peer):
        return view.back("/peers", f"{name} only sends: there is no place to ask.")
    said = ask(peer, desk.settings, now=desk.clock())
    echoes.remember(desk.store, said)
    return view.back("/peers", f"{name}: {in_words(said, now=desk.clock())}")


@router.get("/{name}")
def one(request: Request, desk: At, who: Viewer, live: Live, name: str) -> Response:
    peer = peer_of(desk, name)
    row = desk.settings.peer.index(peer)
    return view.page(
        request,
        "peer.html",
        who,
        peer=next(p for p in _peers(desk) if p["peer"] == name),
        tell=list(introduction(peer, desk.settings)),
        row=row,
        told=Markup(live.html(desk, f"test-{row}")),  # noqa: S704
        stores="receive" in peer.may,
        can_edit=not _why_not(desk),
    )


@router.post("/{name}/test")
def test(desk: At, who: Operator, name: str, store: Text = "") -> Response:
    """Begin the test; its steps appear on the page."""
    why_not = desk.tests.start(desk, peer_of(desk, name), by=who.account.name, stores=bool(store))
    decided(who, "test-peer", peer=name)
    return view.back(f"/peers/{name}", why_not or f"The test of {name} has begun.")


@router.post("/{name}/test/stop")
def stop(desk: At, who: Operator, name: str) -> Response:
    desk.tests.stop(peer_of(desk, name).name)
    return view.back(f"/peers/{name}", "The test ends after the step that is running.")


def _test(desk: Desk, row: int) -> str:
    if row >= len(desk.settings.peer):
        return ""
    trying = desk.tests.of(desk.settings.peer[row].name)
    return view.fragment("parts/test.html", trying=trying)


def _table(desk: Desk, _: int) -> str:
    return view.fragment("parts/peers.html", peers=_peers(desk))


def _taking_up(desk: Desk, _: int) -> str:
    """What waits in the settings file, what is being taken up, and what came of it."""
    notes = _runs(desk)
    ended = [n for n in notes if 0 < n["ended"] == n["begun"] and desk.clock() - n["at"] < SHOWN_SECONDS]
    return view.fragment(
        "parts/taking_up.html",
        busy=any(n["begun"] > n["ended"] for n in notes),
        ended=ended,
        waiting=taking_up.waiting(desk.settings),
    )


parts = {"test": _test, "peers": _table, "taking-up": _taking_up}


def _can_take_up(desk: Desk) -> bool:
    notes = _runs(desk)
    idle = bool(notes) and all(n["begun"] == n["ended"] for n in notes)
    return idle and not _why_not(desk) and bool(taking_up.waiting(desk.settings).said)


def _runs(desk: Desk) -> list[dict[str, Any]]:
    return list(roles.supervisors(desk.settings.node.data_dir).values())


def _peers(desk: Desk) -> list[dict[str, Any]]:
    """Each peer with its last echo in words."""
    now = desk.clock()
    found = destinations(desk.settings, desk.store)
    return [p | {"answered": in_words(Echo(**p["echo"]), now=now) if p["echo"] else ""} for p in found]


def _why_not(desk: Desk) -> str:
    """Why peers are not changed here; "" where they are."""
    file = desk.settings.file
    if not desk.settings.web.edit_peers:
        return "web.edit_peers is false in the settings"
    if file is None or not is_writable(file):
        return "the node may not write its settings file"
    return ""


def _file(desk: Desk) -> Path:
    if why_not := _why_not(desk):
        raise HTTPException(403, f"Peers are not changed here: {why_not}.")
    assert desk.settings.file is not None, "it is writable"
    return desk.settings.file
