"""A peer asked from here, before anything is sent to it: its name, its port, TLS, C-ECHO, and what it takes.

Each function yields the steps of one question; what is learnt on the way stands in `Probe`. Nothing blocks for much
longer than SECONDS.
"""

from __future__ import annotations

import ssl
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydicom.uid import UID

from config.settings import Peer, Settings
from node.admin import step
from node.admin.step import Step, Verdict
from node.domain import Pair
from node.errors import AssociationFailed, SettingsError
from node.network import commitment, echo, link, query, reach, survey, weblink
from node.network.echo import Pulse
from node.network.suboperations import GET_PAIRS, MOVE_PAIRS
from node.pipeline.deliver import remedy
from node.pipeline.peers import echo as answered_in
from node.pipeline.peers import target_of
from node.results.form import CLASSES, SYNTAXES
from node.storage.deliveries import SHOWN

SECONDS = 10.0
SOON_DAYS = 30
"""A certificate that ends within so long is warned about."""
TLS_PROFILE = "BCP 195 RFC 8996, 9325"
NODELAY = "set TCP_NODELAY=1 in its environment there, as for every program made with DCMTK"


@dataclass
class Probe:
    """One peer that has host and port, or a url, and what was learnt of it."""

    settings: Settings
    peer: Peer
    addresses: list[str] = field(default_factory=list)
    stopped: str = ""
    """The step that failed, and makes the later ones useless."""
    takes: dict[Pair, bool] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return min(self.settings.deliver.timeout_seconds, SECONDS)

    @property
    def host(self) -> str:
        return (urlsplit(self.peer.url).hostname or "") if self.peer.url else self.peer.host

    @property
    def port(self) -> int:
        if not self.peer.url:
            return self.peer.port or 0
        parts = urlsplit(self.peer.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    def failure(self, error: OSError) -> AssociationFailed:
        """Why there is no connection, in the words of what the peer speaks."""
        if self.peer.url:
            return weblink.failure(self.peer.url, error, late=False)
        return link.failure(target_of(self.peer, self.settings, timeout=self.seconds), error)

    def offers(self, pairs: tuple[Pair, ...]) -> bool:
        return any(self.takes.get(pair) for pair in pairs)

    def kinds(self) -> list[str]:
        """The kinds of results that live routes send to this peer."""
        made = {kind for route in self.settings.route if self.is_fed_by(route.name) for kind in route.results}
        return [kind for kind in CLASSES if kind in made and (not self.peer.results or kind in self.peer.results)]

    def is_fed_by(self, name: str) -> bool:
        return any(r.name == name and r.mode == "live" and self.peer.name in r.deliver_to for r in self.settings.route)


def ask(probe: Probe) -> Iterator[Step]:
    """All questions, until one of them makes the rest useless; those that are left then say so."""
    for name, question in QUESTIONS.items():
        if probe.stopped:
            yield step.unable(name, f"not tried, as {probe.stopped} failed")
            continue
        try:
            for said in question(probe):
                yield said
                if said.verdict == "fail" and name != "capabilities":
                    probe.stopped = f'"{name}"'
        except AssociationFailed as error:
            yield _failed(name, error)
            probe.stopped = f'"{name}"'
        except SettingsError as error:
            yield step.fail(name, str(error), "correct it in the settings here")
            probe.stopped = f'"{name}"'


def _failed(name: str, error: AssociationFailed) -> Step:
    return step.fail(name, error.said, error.advice or "see its log there")


def _connect(probe: Probe) -> Iterator[Step]:
    try:
        probe.addresses = reach.addresses(probe.host, probe.port, probe.seconds)
        seconds = reach.connect(probe.addresses, probe.port, probe.seconds)
    except OSError as error:
        raise probe.failure(error) from None
    where = f"{probe.host}:{probe.port}"
    named = f" ({', '.join(probe.addresses)})" if [probe.host] != probe.addresses else ""
    yield step.ok("connect", f"{where}{named} takes connections, in {1000 * seconds:.0f} ms")


def _tls(probe: Probe) -> Iterator[Step]:
    context = _context(probe)
    if context is None:
        what = "its url is http" if probe.peer.url else "this peer is used without TLS"
        yield step.left_out("tls", f"{what}: nothing is encrypted")
        return
    try:
        shown = reach.shake_hands(probe.host, probe.port, context, probe.seconds)
    except TimeoutError:
        said = f"{probe.host}:{probe.port} takes the connection and does not speak TLS within {probe.seconds:g} s"
        raise AssociationFailed(said, advice="correct its port here, or see whether it has TLS there") from None
    except OSError as error:
        raise probe.failure(error) from None
    if probe.peer.fingerprint and shown.fingerprint != probe.peer.fingerprint:
        raise link.stranger(target_of(probe.peer, probe.settings), shown.fingerprint)
    profile = "" if probe.peer.url else f", as {TLS_PROFILE} asks for"
    text = (
        f"{shown.version} with {shown.cipher}{profile}; its certificate is valid for {shown.days_left:.0f} more days, "
        f"fingerprint {shown.fingerprint}"
    )
    if shown.days_left < SOON_DAYS:
        yield step.warn("tls", text, "put a new certificate in its place there")
    else:
        yield step.ok("tls", text)


def _context(probe: Probe) -> ssl.SSLContext | None:
    if not probe.settings.uses_tls(probe.peer):
        return None
    if probe.peer.url:
        return weblink.secure_context(probe.peer.authorities)
    return target_of(probe.peer, probe.settings).context()


def _echo(probe: Probe) -> Iterator[Step]:
    if probe.peer.url:
        asked = "Orthanc's REST" if probe.peer.api == "orthanc" else "a search by QIDO-RS"
        turns = [answered_in(probe.peer, probe.settings, timeout=probe.seconds) for _ in range(echo.TURNS)]
        text = f"answers {asked} in {1000 * statistics.median(turns):.0f} ms (median of {echo.TURNS})"
        yield step.ok("echo", text)
        return
    pulse = echo.pulse(target_of(probe.peer, probe.settings, timeout=probe.seconds))
    text = f"answers C-ECHO in {1000 * pulse.at_once:.0f} ms (median of {echo.TURNS}){_implementation(pulse)}"
    if pulse.held_back:
        yield step.warn("echo", f"{text}; {held_back(pulse)}", NODELAY)
    else:
        yield step.ok("echo", text)


def _implementation(pulse: Pulse) -> str:
    return f", as {pulse.implementation_version_name}" if pulse.implementation_version_name else ""


def held_back(pulse: Pulse) -> str:
    """What a peer with Nagle's algorithm costs whoever does not acknowledge at once."""
    return (
        f"in {1000 * pulse.late:.0f} ms where its answer is not acknowledged at once (Nagle's algorithm): each object "
        "that it sends or takes costs others as much"
    )


def _capabilities(probe: Probe) -> Iterator[Step]:
    if probe.peer.url:
        yield step.left_out(
            "capabilities", "a service on the web does not say what it takes or gives before it is asked"
        )
        return
    stores = CLASSES if "receive" in probe.peer.may else {}
    kinds = {kind: tuple((str(c), str(s)) for c in CLASSES[kind] for s in SYNTAXES) for kind in stores}
    pairs = [pair for some in (*kinds.values(), *survey.SERVICES.values()) for pair in some]
    probe.takes = survey.survey(target_of(probe.peer, probe.settings, timeout=probe.seconds), pairs)
    table = [(f"{kind.upper()} {UID(c).name}", _syntaxes(probe, c)) for kind in stores for c in CLASSES[kind]]
    table += [(name, "yes" if probe.offers(some) else "no") for name, some in survey.SERVICES.items()]
    problems = [*_unwanted(probe), *(_unprovable(probe) if stores else ()), *_unaskable(probe)]
    if not problems:
        able = ["takes all that routes send there"] if stores else []
        able += ["can be asked for studies"] if "query" in probe.peer.may else []
        yield step.ok("capabilities", " and ".join(able), table=tuple(table))
        return
    verdict: Verdict = "fail" if any(p.verdict == "fail" for p in problems) else "warn"
    text, change = ("; ".join(getattr(p, key) for p in problems) for key in ("text", "change"))
    yield Step("capabilities", verdict, text, change, verdict != "fail", tuple(table))


def _syntaxes(probe: Probe, sop_class: str) -> str:
    taken = [s.name for s in SYNTAXES if probe.takes.get((str(sop_class), str(s)))]
    return f"yes, in {' and '.join(taken)}" if taken else "no"


def _unwanted(probe: Probe) -> Iterator[Step]:
    """What a route would send there and the peer does not take."""
    sent = probe.kinds()
    taken = [kind for kind in sent if probe.offers(tuple((str(c), str(s)) for c in CLASSES[kind] for s in SYNTAXES))]
    instead = [kind for kind in taken if kind in SHOWN]
    for kind in sent:
        if kind in taken:
            continue
        text = f"takes no {UID(CLASSES[kind][0]).name}, which routes make for it ({kind})"
        change = remedy(kind, probe.peer.name)
        if kind == "sr" and instead:
            yield step.warn("capabilities", f"{text}; its {instead[0]} says the same", change)
        else:
            yield step.fail("capabilities", text, change)


def _unprovable(probe: Probe) -> Iterator[Step]:
    """How the peer is to prove that it keeps what it gets, and does not offer."""
    ways = {"commitment": commitment.PAIRS, "find": query.PAIRS}
    proof = probe.peer.proof
    wanted = ways if proof == "auto" else {way: pairs for way, pairs in ways.items() if way == proof}
    if wanted and not any(probe.offers(pairs) for pairs in wanted.values()):
        names = {"commitment": "Storage Commitment", "find": "Query (C-FIND)"}
        offered = " nor ".join(names[way] for way in wanted)
        said = f"offers {'neither ' if len(wanted) > 1 else 'no '}{offered}: that it keeps results stays unproven"
        yield step.warn(
            "capabilities",
            said,
            f'switch one of them on there for this node, or set proof = "none" in [[peer]] {probe.peer.name} here'
            if proof == "auto"
            else f'switch it on there for this node, or change proof = "{proof}" in [[peer]] {probe.peer.name} here',
        )


def _unaskable(probe: Probe) -> Iterator[Step]:
    """What `overread pull` needs of a peer and it does not offer."""
    peer = probe.peer
    if "query" not in peer.may:
        return
    if not probe.offers(query.PAIRS):
        said = "offers no Query (C-FIND): no study can be found there"
        yield step.fail("capabilities", said, "let this node query there")
    ways = {"C-GET": GET_PAIRS} if peer.retrieve != "move" else {}
    ways |= {"C-MOVE": MOVE_PAIRS} if peer.retrieve != "get" and "send" in peer.may else {}
    if not any(probe.offers(pairs) for pairs in ways.values()):
        said = f"offers no {' and no '.join(ways)}: no study can be brought from it"
        change = "let this node retrieve there"
        if "C-MOVE" not in ways and peer.retrieve == "auto" and probe.offers(MOVE_PAIRS):
            change += f', or add "send" to may in [[peer]] {peer.name} here: it offers C-MOVE'
        yield step.fail("capabilities", said, change)


QUESTIONS = {"connect": _connect, "tls": _tls, "echo": _echo, "capabilities": _capabilities}
