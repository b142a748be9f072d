"""Commands about peers: peer list, echo."""

from __future__ import annotations

from typing import Annotated

import typer

from config.settings import Peer, Settings
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, err, fail, load, moment, out, print_json
from node.errors import PeerError
from node.network.sender import Sender
from node.network.stow import WebSender
from node.pipeline.peers import place, sender_to

peer_app = typer.Typer(no_args_is_help=True, help="The systems that this node talks to.")
app.add_typer(peer_app, name="peer")

Name = Annotated[str, typer.Argument(metavar="PEER", help="The name of a [[peer]] in the settings")]


def known(settings: Settings, name: str) -> Peer:
    """The peer of that name; ends the program when the settings have none."""
    peer = settings.peer_named(name)
    if peer is None:
        have = ", ".join(p.name for p in settings.peer) or "none"
        fail(f"{name}: no such [[peer]] in the settings (have: {have})", UNUSABLE)
    return peer


def sender_of(settings: Settings, name: str) -> tuple[Peer, Sender | WebSender]:
    """The peer of that name and how to send to it; ends the program where it has no place."""
    peer = known(settings, name)
    if not peer.url and (peer.port is None or not peer.host):
        fail(f"{name}: this peer has no host and port and no url, so nothing can be sent to it", UNUSABLE)
    return peer, sender_to(peer, settings)


@peer_app.command("list")
def peer_list(config: Config = None, as_json: Json = False) -> None:
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


@peer_app.command("echo")
def peer_echo(peer: Name, config: Config = None, as_json: Json = False) -> None:
    """Ask a peer whether it is there and knows this node (C-ECHO; of a url, a search by QIDO-RS)."""
    settings, _ = load(config)
    asked, sender = sender_of(settings, peer)
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
