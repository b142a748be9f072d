"""Commands about peers: peers, and those that talk to them: echo and send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from config.settings import Peer, Settings
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, err, fail, load, moment, out, plural, print_json
from node.errors import PeerError
from node.network.sender import Sender
from node.network.stow import WebSender
from node.pipeline.peers import place, sender_to

Name = Annotated[str, typer.Argument(metavar="PEER", help="The name of a [[peer]] in the settings")]


def known(settings: Settings, name: str) -> Peer:
    """The peer of that name; ends the program when the settings have none."""
    peer = settings.peer_named(name)
    if peer is None:
        have = ", ".join(p.name for p in settings.peer) or "none"
        fail(f"{name}: no such [[peer]] in the settings (have: {have})", UNUSABLE)
    return peer


def _sender(settings: Settings, name: str) -> tuple[Peer, Sender | WebSender]:
    peer = known(settings, name)
    if not peer.url and (peer.port is None or not peer.host):
        fail(f"{name}: this peer has no host and port and no url, so nothing can be sent to it", UNUSABLE)
    return peer, sender_to(peer, settings)


@app.command()
def peers(config: Config = None, as_json: Json = False) -> None:
    """Who the peers are, and which results each of them takes in which form, as it said when it was last asked."""
    from node.admin.destinations import destinations
    from node.service import open_parts

    settings, _ = load(config)
    with open_parts(settings) as parts:
        known_peers = destinations(settings, parts.store)
    for peer in known_peers:
        if as_json:
            print_json(peer)
            continue
        newest = max((said["at"] for said in peer["takes"].values()), default=None)
        takes = ", ".join(f"{kind.upper()} {said['words']}" for kind, said in peer["takes"].items())
        never = "not asked yet" if "receive" in peer["may"] else "only sends"
        asked = f"{takes} ({moment(newest)})" if takes else never
        out.print(f"{peer['peer']}  {peer['place']}  TLS {'yes' if peer['tls'] else 'no'}  {asked}", markup=False)


@app.command()
def echo(peer: Name, config: Config = None, as_json: Json = False) -> None:
    """Ask a peer whether it is there and knows this node (C-ECHO; of a url, a search by QIDO-RS)."""
    settings, _ = load(config)
    asked, sender = _sender(settings, peer)
    at = {"url": asked.url} if asked.url else {"ae_title": asked.ae_title, "host": asked.host, "port": asked.port}
    said = {"peer": asked.name} | at
    try:
        seconds = sender.echo()
    except PeerError as error:
        if as_json:
            print_json(said | {"answered": False, "error": str(error)})
        else:
            err.print(str(error), style="red", markup=False)
        raise typer.Exit(FAILED) from None
    if as_json:
        print_json(said | {"answered": True, "seconds": round(seconds, 4)})
    else:
        out.print(f"{asked.name} ({place(asked)}) answered in {seconds * 1000:.0f} ms", markup=False)


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(metavar="FILES", help="DICOM files and folders of them")],
    to: Annotated[str, typer.Option("--to", metavar="PEER", help="The name of a [[peer]] in the settings")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send DICOM files to a peer as they are (C-STORE; to a url, STOW-RS)."""
    settings, _ = load(config)
    _, sender = _sender(settings, to)
    files = _files(paths)
    if not files:
        fail("no files to send", UNUSABLE)
    bad = 0
    with Progress(console=err, transient=True) as progress:
        bar = progress.add_task("sending", total=len(files))
        for path, outcome in sender.send(files):
            progress.advance(bar)
            good = outcome.kind in ("stored", "warning")
            bad += not good
            if as_json:
                print_json({"file": path, "outcome": outcome.kind, "status": outcome.status, "error": outcome.error})
            elif not good or outcome.error:
                said, style = ("stored", "yellow") if good else ("not stored", "red")
                err.print(f"{path}: {said}: {outcome.error}", style=style, markup=False)
    sender.close()
    if not as_json:
        out.print(f"{len(files) - bad} of {plural(len(files), 'file')} stored at {to}")
    raise typer.Exit(FAILED if bad else 0)


def _files(paths: list[Path]) -> list[Path]:
    missing = [p for p in paths if not p.exists()]
    if missing:
        fail(f"{missing[0]}: no such file or folder", UNUSABLE)
    return [f for p in paths for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
