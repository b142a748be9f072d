"""The conformance statement against the wire: what the listener accepts and answers, what the senders propose."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from house import House, make_image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, build_context, build_role, evt, sop_class
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation, UserIdentityNegotiation
from query_scp_made import QueryScp
from shelf_made import Shelf, Taken, object_of, uid_of
from web_made import Reply, Request, Web
from whole_house import Bundles, Reader, Whole

from config import inforce
from config.settings import Settings
from node import service
from node.admin import conformance
from node.admin.conformance import Document, answers, entity, services, statement
from node.dispatch import Dispatcher
from node.errors import AssociationFailed
from node.network import commitment, rest
from node.network.find import Finder
from node.network.incoming import CommitmentRequest, Reference
from node.network.orthanc import free_port
from node.network.source import Wanted
from node.pipeline import commit, expect, infer, prove, receive
from node.pipeline.peers import sender_to, target_of
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.pipeline.sources import source_to
from node.service import open_parts
from node.storage import roles
from node.storage.bell import Bell, Ear

NOW = 1_800_000_000.0
EVERY_CLASS = sorted({str(uid) for uid in vars(sop_class).values() if isinstance(uid, UID)})
"""Storage, Verification, Storage Commitment, Query/Retrieve, worklists, print: all that pynetdicom knows."""
PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
EAGER = {"name": "eager", "ae_title": "EAGER", "networks": ["127.0.0.1"], "may": ["send"], "prefer": "uncompressed"}
TAKER = {"name": "taker", "ae_title": "TAKER", "host": "127.0.0.1", "port": 105, "may": ["receive"]}


@dataclass
class Node:
    """The receive role with its settings, and the statement that goes with them."""

    settings: Settings
    said: Document
    port: int

    def associate(self, contexts: Sequence[Any], *, calling: str = "PACS", **options: Any) -> Any:
        ae = AE(calling)
        ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = ae.network_timeout = 20
        options.setdefault("ae_title", self.settings.node.ae_title)
        return ae.associate("127.0.0.1", self.port, contexts=list(contexts), **options)


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Node]]:
    """Start the receive role with these settings, as `serve` does; it is stopped at the end."""
    stop = threading.Event()
    threads: list[threading.Thread] = []
    ears: list[Ear] = []
    listen = Bell.listen
    # the role's process would end here
    monkeypatch.setattr(Bell, "listen", lambda bell, name: ears.append(listen(bell, name)) or ears[-1])

    def start(**sections: Any) -> Node:
        listener = {"port": free_port(), "reserve_mb": 0} | sections.pop("listener", {})
        values: dict[str, Any] = {"peer": [PACS, EAGER, TAKER], "node": {"ae_title": "ELEVEN"}} | sections
        values["node"] = values["node"] | {"data_dir": tmp_path / "data"}
        settings = Settings(listener=listener, **values)
        put = tmp_path / "inforce.json"
        inforce.write(settings, put, at=NOW)
        thread = threading.Thread(target=service.receive, args=(inforce.InForce(put), "receive", stop), daemon=True)
        thread.start()
        threads.append(thread)
        until(lambda: roles.status(settings.node.data_dir, ["receive"])["receive"].get("state") == "ready")
        return Node(settings, statement(settings, now=NOW), settings.tls.port if settings.tls else listener["port"])

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)
    for ear in ears:
        ear.close()


def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen in time")


def accepted_by(said: Document, whose: str) -> dict[str, list[str]]:
    """What the statement's tables say: of each SOP class the transfer syntaxes, most wanted first."""
    sets: dict[str, list[str]] = {}
    for name, of, _, _, syntax in said.table(entity.SETS).rows:
        if of == whose:
            sets.setdefault(name, []).append(syntax)
    table = said.table(entity.ACCEPTED)
    return {uid: sets[name] for uid, name in zip(table.column("UID"), table.column("Transfer syntaxes"), strict=True)}


def batches(contexts: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(contexts), 128):
        yield contexts[start : start + 128]


def taken(node: Node, contexts: Sequence[Any], **options: Any) -> list[Any]:
    """The presentation contexts that the listener accepts of these, over as many associations as they need."""
    found = []
    for batch in batches(contexts):
        assoc = node.associate(batch, **options)
        assert assoc.is_established or assoc.rejected_contexts, "no association"
        found += assoc.accepted_contexts
        if assoc.is_established:
            assoc.release()
    return found


@pytest.mark.slow
def test_the_listener_accepts_what_the_statement_says_and_nothing_else(serving: Callable[..., Node]) -> None:
    node = serving()
    said = accepted_by(node.said, "most peers")
    assert len(EVERY_CLASS) > len(said) > 170 and len(ALL_TRANSFER_SYNTAXES) > 40
    every = [build_context(uid, [syntax]) for uid in EVERY_CLASS for syntax in ALL_TRANSFER_SYNTAXES]
    found = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in taken(node, every)}
    assert found == {(uid, syntax) for uid, syntaxes in said.items() for syntax in syntaxes}


@pytest.mark.parametrize(("calling", "whose"), [("PACS", "most peers"), ("EAGER", "eager")])
def test_of_several_transfer_syntaxes_the_first_of_the_statement_is_taken(
    serving: Callable[..., Node], calling: str, whose: str
) -> None:
    node = serving()
    said = accepted_by(node.said, whose)
    for uid in ("1.2.840.10008.5.1.4.1.1.1", commitment.MODEL):
        left = said[uid]
        while left:
            (context,) = taken(node, [build_context(uid, list(reversed(left)))], calling=calling)
            assert context.transfer_syntax[0] == left[0]
            left = left[1:]


def test_roles_are_taken_as_the_statement_says(serving: Callable[..., Node]) -> None:
    node = serving()
    table = node.said.table(entity.ACCEPTED)
    rows = {row[1]: row for row in table.rows}
    for uid in (commitment.MODEL, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"):
        role = build_role(uid, scu_role=True, scp_role=True)
        (context,) = taken(node, [build_context(uid, [ExplicitVRLittleEndian])], ext_neg=[role])
        # the requestor's own roles: it may be the SCP where this node is the SCU
        assert (context.as_scp, context.as_scu) == ("SCU" in rows[uid][3], "SCP" in rows[uid][3])
        (plain,) = taken(node, [build_context(uid, [ExplicitVRLittleEndian])])
        assert (plain.as_scu, plain.as_scp) == (True, False)


def test_the_association_is_what_the_statement_says(serving: Callable[..., Node]) -> None:
    node = serving(listener={"max_associations": 2})
    window, identity = AsynchronousOperationsWindowNegotiation(), UserIdentityNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    identity.user_identity_type, identity.primary_field, identity.positive_response_requested = 1, b"me", True
    echo = [build_context("1.2.840.10008.1.1")]
    assoc = node.associate(echo, ext_neg=[window, identity])
    answer = assoc.acceptor.primitive
    policies = dict(node.said.table(entity.POLICIES).rows)
    assert str(answer.application_context_name) == policies["Application context name"]
    assert str(assoc.acceptor.maximum_length) == policies["Maximum PDU length received, bytes"]
    identity_said = dict(node.said.table(entity.IMPLEMENTATION).rows)
    assert str(assoc.acceptor.implementation_class_uid) == identity_said["Implementation Class UID"]
    assert assoc.acceptor.implementation_version_name == identity_said["Implementation Version Name"]
    items = {type(item).__name__ for item in answer.user_information}
    assert items == {
        "MaximumLengthNotification",
        "ImplementationClassUIDNotification",
        "ImplementationVersionNameNotification",
    }
    ((_, most),) = node.said.table(entity.ACCEPTOR).rows
    others = [node.associate(echo) for _ in range(int(most))]
    assert [other.is_established for other in others] == [True] * (int(most) - 1) + [False]
    for one in (assoc, *others[:-1]):
        one.release()


def test_associations_are_rejected_as_the_statement_says(
    serving: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = serving(listener={"max_associations": 5})
    echo = [build_context("1.2.840.10008.1.1")]

    def numbers(**options: Any) -> tuple[str, ...]:
        answer = node.associate(echo, **options).acceptor.primitive
        return str(answer.result), str(answer.result_source), str(answer.diagnostic)

    seen = [numbers(ae_title="NOBODY"), numbers(calling="STRANGER")]
    held = [node.associate(echo) for _ in range(5)]
    seen.append(numbers())
    for one in held:
        one.release()
    monkeypatch.setattr("node.storage.spool.Spool.free_bytes", lambda _spool: -1)
    until(lambda: not [thread for thread in threading.enumerate() if "process_request" in thread.name])
    seen.append(numbers())
    monkeypatch.setattr(receive, "refuse", lambda *_: 1 / 0)
    seen.append(numbers())
    table = node.said.table("Rejections of association requests")
    assert set(seen) == {row[:3] for row in table.rows}


@pytest.mark.slow
def test_with_tls_the_suites_and_versions_are_those_of_the_statement(
    serving: Callable[..., Node], tmp_path: Path
) -> None:
    """Each suite that this OpenSSL knows is tried alone: it is agreed on exactly when the statement names it."""
    import ssl

    authority = Authority(tmp_path / "tls")
    files, peer = authority.files("node"), authority.files("pacs")
    tls = {"port": free_port(), "certificate": files.certificate, "key": files.key, "authorities": files.authorities}
    node = serving(tls=tls)
    table = node.said.table("Cipher suites")
    named = {name for name, version in table.rows if version == "TLSv1.2"}
    everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    everything.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    suites = {str(c["name"]) for c in everything.get_ciphers() if c["protocol"] != "TLSv1.3"}
    agreed = {suite for suite in suites if _shakes_hands(node.port, peer, suite)}
    # a suite needs a key of its kind, and the node's is one for ECDSA
    assert agreed == {suite for suite in named if "ECDSA" in suite}
    assert _shakes_hands(node.port, peer, "") == "TLSv1.3"


def _shakes_hands(port: int, files: Any, suite: str) -> str:
    import socket
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authorities)
    if suite:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{suite}:@SECLEVEL=0")
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain) as wrapped:
            return wrapped.version() or ""
    except (ssl.SSLError, OSError):
        return ""


def test_each_answer_to_a_c_store_is_given_when_the_statement_says(
    serving: Callable[..., Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = serving(listener={"instance_limit_mb": 1})
    image = make_image(tmp_path / "a.dcm")
    large = make_image(tmp_path / "b.dcm", ImageComments="x" * 10000)
    ds = dcmread(large)
    ds.PixelData = bytes(2 * 1024**2)
    ds.save_as(large)
    context = [build_context("1.2.840.10008.5.1.4.1.1.1", [ExplicitVRLittleEndian])]

    def status(path: Path, calling: str = "PACS") -> int:
        assoc = node.associate(context, calling=calling)
        try:
            return int(assoc.send_c_store(path).Status)
        finally:
            assoc.release()

    seen = [status(image), status(large), status(image, "TAKER")]
    seen.append(status(make_image(tmp_path / "c.dcm", StudyInstanceUID="")))
    whole = image.read_bytes()
    cut = whole.index(b"\x08\x00\x16\x00")
    (tmp_path / "d.dcm").write_bytes(whole[:cut] + b"\x08\x00\x05\x00ZZ\xff\xff" + b"\x00" * 40)
    seen.append(status(tmp_path / "d.dcm"))
    monkeypatch.setattr(receive, "keep", lambda *_, **__: 1 / 0)
    seen.append(status(make_image(tmp_path / "e.dcm")))
    assert set(seen) == {one.code for one in answers.STORE}


@dataclass
class Recorder:
    """A peer that takes whatever is proposed, and remembers it."""

    port: int = 0
    proposed: list[Any] = field(default_factory=list)

    def start(self) -> Any:
        ae = AE("PACS")
        for uid in EVERY_CLASS:
            ae.add_supported_context(uid, ALL_TRANSFER_SYNTAXES[:2], scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, lambda event: self.proposed.append(event.assoc.requestor)),
            (evt.EVT_C_STORE, lambda _event: 0x0000),
            (evt.EVT_N_ACTION, lambda _event: (0x0000, None)),
            (evt.EVT_N_EVENT_REPORT, lambda _event: (0x0000, None)),
            (evt.EVT_C_FIND, lambda _event: iter(())),
            (evt.EVT_C_GET, lambda _event: iter((0,))),
            (evt.EVT_C_MOVE, lambda _event: iter(((None, None),))),
        ]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = server.server_address[1]
        return server

    def taken(self) -> set[tuple[str, str, str]]:
        """What was proposed since the last time, with the role of who proposed it."""
        found = set()
        for requestor in self.proposed:
            roles_of = {str(uid): item for uid, item in requestor.role_selection.items()}
            for context in requestor.primitive.presentation_context_definition_list:
                uid = str(context.abstract_syntax)
                role = "SCP" if uid in roles_of and roles_of[uid].scp_role else "SCU"
                (syntax,) = context.transfer_syntax
                found.add((uid, str(syntax), role))
        self.proposed.clear()
        return found


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    server = made.start()
    yield made
    server.shutdown()


@pytest.fixture
def sending(tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Whole]]:
    """A house whose only peer is the recorder, with a model that is only here in memory."""
    opened = []

    def make(kinds: Sequence[str], **changed: Any) -> Whole:
        monkeypatch.setattr(infer, "Reader", Reader)
        bundles = Bundles("1.0.0")
        settings = Settings(
            node={"data_dir": tmp_path / "data"},
            listener={"reserve_mb": 0, "commit": True},
            deliver={"timeout_seconds": 5},
            peer=[{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": recorder.port} | changed],
            route=[{"name": "chest", "bundle": "cardiomegaly", "results": list(kinds), "deliver_to": ["pacs"]}],
        )
        plans = [Planned(settings.route[0], "cardiomegaly@1.0.0")]
        monkeypatch.setattr(conformance, "registry", lambda _settings: bundles)
        monkeypatch.setattr(conformance, "plan", lambda _settings: plans)
        parts = open_parts(settings)
        opened.append(parts)
        house = House(settings, parts.store, parts.spool, parts.bell, settings.node.data_dir)
        return Whole(house, recorder, bundles)  # type: ignore[arg-type]

    yield make
    for parts in opened:
        parts.close()


def proposals(said: Document, name: str) -> set[tuple[str, str, str]]:
    table = said.table(f"Proposed presentation contexts: {name}")
    return {(row[1], row[3], row[4]) for row in table.rows}


@pytest.mark.parametrize(
    ("kinds", "wanted", "proof"),
    [
        (["sr", "sc", "gsps", "kos", "pdf"], [], "auto"),
        (["sr", "sc"], [], "find"),
        (["sr", "sc"], ["sc"], "commitment"),
    ],
)
def test_what_is_proposed_to_a_peer_is_what_the_statement_says(
    sending: Callable[..., Whole], recorder: Recorder, tmp_path: Path, kinds: list[str], wanted: list[str], proof: str
) -> None:
    whole = sending(kinds, results=wanted, proof=proof)
    house = whole.house
    settings, peer = house.settings, house.settings.peer[0]
    said = statement(settings, now=NOW)
    image = make_image(tmp_path / "a.dcm")
    house.receive(image)
    house.now += 100
    settle_due(house.store, settings, house.now)
    route_study(house.store, house.only_study(), whole.plans(), house.now, peers=settings.peer)
    whole.infer()
    whole.deliver()
    sent = recorder.taken()
    withdrawn = {one for one in proposals(said, "Send results") if one[0] == "1.2.840.10008.5.1.4.1.1.88.59"}
    expected = proposals(said, "Send results")
    # a withdrawal is sent when a person asks for it; its class is that of a key object selection
    assert sent | (set() if "kos" in kinds else withdrawn) == expected
    prover = prove.Prover(house.store, peer, settings=settings, clock=lambda: house.now + 3600)
    assert prover.prove_due()
    prover.close()
    assert recorder.taken() == proposals(said, "Ask for proof")
    ds = dcmread(image)
    request = CommitmentRequest("1.2.3", (Reference(str(ds.SOPClassUID), str(ds.SOPInstanceUID)),))
    house.begin("b" * 12)
    assert house.receiver.on_commitment_request("b" * 12, request).code == 0
    committer = commit.Committer(house.store, peer, settings=settings, bell=house.bell, clock=lambda: house.now)
    while committer.commit_due():
        continue
    assert recorder.taken() == proposals(said, "Report on storage commitment")
    sender = sender_to(peer, settings)
    sender.echo()
    sender.close()
    assert recorder.taken() == proposals(said, "Verification")
    assert {a.name for a in services.activities(settings)} == {
        "Verification",
        "Send results",
        "Send files",
        "Ask for proof",
        "Report on storage commitment",
    }


def test_whoever_asks_says_who_it_is_as_the_statement_does(sending: Callable[..., Whole], recorder: Recorder) -> None:
    settings = sending(["sr"]).house.settings
    said = statement(settings, now=NOW)
    sender_to(settings.peer[0], settings).echo()
    (requestor,) = recorder.proposed
    items = {type(item).__name__ for item in requestor.primitive.user_information}
    assert not {name for name in items if "Extended" in name or "Asynchronous" in name or "Identity" in name}
    identity = dict(said.table(entity.IMPLEMENTATION).rows)
    policies = dict(said.table(entity.POLICIES).rows)
    assert str(requestor.implementation_class_uid) == identity["Implementation Class UID"]
    assert requestor.implementation_version_name == identity["Implementation Version Name"]
    assert str(requestor.maximum_length) == policies["Maximum PDU length received, bytes"]
    assert str(requestor.primitive.application_context_name) == policies["Application context name"]
    assert str(requestor.primitive.calling_ae_title).strip() == settings.node.ae_title


@pytest.mark.parametrize("proof", ["auto", "none"])
@pytest.mark.parametrize("commits", [True, False])
def test_as_many_associations_are_held_as_the_statement_says(
    sending: Callable[..., Whole], proof: str, commits: bool
) -> None:
    house = sending(["sr"], proof=proof).house
    listener = house.settings.listener.model_copy(update={"commit": commits})
    settings = house.settings.model_copy(update={"listener": listener})
    *each, (_, in_all) = statement(settings, now=NOW).table(entity.INITIATOR).rows
    dispatcher = Dispatcher(house.store, house.spool, settings=settings, bell=house.bell, plans=[])
    lanes = [lane.thread.name.partition("-")[0] for lane in dispatcher._lanes]
    calling = [name for name in lanes if name in ("deliver", "prove", "expect", "commit")]
    assert set(lanes) - set(calling) <= {"alarms", "audit", "canary"}, "whoever opens associations is counted above"
    assert len(calling) == int(in_all) == len(each)


def test_what_is_proposed_to_bring_studies_is_what_the_statement_says(
    sending: Callable[..., Whole], recorder: Recorder, tmp_path: Path
) -> None:
    house = sending(["sr"], may=["send", "receive", "query"]).house
    settings, (peer,) = house.settings, house.settings.peer
    said = statement(settings, now=NOW)
    source = source_to(peer, settings, folder=tmp_path)
    assert list(source.find(Wanted(since="20260101"))) == []
    assert recorder.taken() == proposals(said, "Find studies")
    source.fetch("1.2.3", lambda _arrived: 1 / 0)  # type: ignore[arg-type,return-value]
    assert recorder.taken() == proposals(said, "Bring studies")
    source.close()
    moving = peer.model_copy(update={"retrieve": "move"})
    with pytest.raises(AssociationFailed, match="0xA801"):
        source_to(moving, settings, folder=tmp_path).fetch("1.2.3", lambda _arrived: 1 / 0)  # type: ignore[arg-type,return-value]
    assert recorder.taken() == proposals(said, "Have studies sent")
    expecter = expect.Expecter(house.store, peer, settings=settings, bell=house.bell)
    assert expecter._counts.count("1.2.3") == 0
    expecter.close()
    assert recorder.taken() == proposals(said, "Count instances")


def test_what_is_asked_for_at_each_level_is_what_the_statement_says(tmp_path: Path) -> None:
    pacs = QueryScp(make_image(tmp_path / "a.dcm"))
    pacs.tells = set()
    settings = Settings(peer=[PACS | {"port": pacs.port, "may": ["send", "receive", "query"]}])
    table = statement(settings, now=NOW).table("Identifiers of the C-FIND: Find studies")
    finder = Finder(target_of(settings.peer[0], settings))
    (found,) = finder.studies(Wanted(modalities=("CR",)))
    assert (finder.count(found.study_instance_uid), len(finder.sop_classes(found.study_instance_uid))) == (1, 1)
    finder.close()
    pacs.stop()
    assert {ds.QueryRetrieveLevel for ds in pacs.identifiers} == {"STUDY", "SERIES", "IMAGE"}
    for ds in pacs.identifiers:
        tags = {str(element.tag).upper() for element in ds if element.keyword != "QueryRetrieveLevel"}
        assert tags == {row[2] for row in table.rows if row[0] == ds.QueryRetrieveLevel}
        for row in table.rows:
            if row[0] == ds.QueryRetrieveLevel and row[3] == "universal":
                assert not ds[row[2].strip("()").replace(",", "")].value


def test_what_is_asked_of_a_web_service_is_what_the_statement_says(tmp_path: Path) -> None:
    web = Web()
    settings = Settings(peer=[{"name": "web", "url": web.url}])
    table = statement(settings, now=NOW).table("Requests to DICOMweb services")
    image = make_image(tmp_path / "a.dcm")
    sender: Any = sender_to(settings.peer[0], settings)
    assert [outcome.kind for _, outcome in sender.send([image])] == ["stored"]
    ds: Dataset = dcmread(image)
    from node.network.query import Sought

    sender.holds(Sought(str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID)))
    sender.echo()
    web.stop()
    seen = set()
    for request in web.requests:
        path, _, query = request.path.removeprefix("/dicom-web").partition("?")
        path = path.replace(str(ds.StudyInstanceUID), "{StudyInstanceUID}")
        path = path.replace(str(ds.SeriesInstanceUID), "{SeriesInstanceUID}")
        names = ", ".join(sorted({pair.partition("=")[0] for pair in query.split("&") if pair}, key=str.casefold))
        body = re.sub(r"; boundary=.*", "", request.headers.get("Content-Type", ""))
        seen.add((request.method, path, names, body, request.headers["Accept"]))
    assert seen == {tuple(row[1:6]) for row in table.rows}


def test_what_is_asked_to_bring_studies_over_the_web_is_what_the_statement_says(tmp_path: Path) -> None:
    web, shelf = Web(), Shelf()
    shelf.add("1.2.3", object_of("1.2.3"), object_of("1.2.3"), accession="A1")
    settings = Settings(peer=[{"name": "web", "url": web.url, "may": ["query"]}])
    table = statement(settings, now=NOW).table("Requests to DICOMweb services")
    source = source_to(settings.peer[0], settings, folder=tmp_path, held=lambda uid: kept)
    kept: list[str] = []
    web.reply = shelf
    wanted = Wanted("20200101", "20201231", ("CR",), ("A1",), ("P1",), ("1.2.3",))
    assert len(list(source.find(wanted))) == 1
    assert (source.count("1.2.3"), source.fetch("1.2.3", Taken()).taken) == (2, 2)
    kept = [next(iter(shelf.objects["1.2.3"]))]
    assert source.fetch("1.2.3", Taken()).taken == 1
    source.close()
    web.stop()
    seen: dict[tuple[str, str, str], set[str]] = {}
    for request in web.requests:
        path, _, query = request.path.removeprefix("/dicom-web").partition("?")
        for uid in shelf.objects["1.2.3"]:
            path = path.replace(uid, "{SOPInstanceUID}")
        path = path.replace("/series/1.2.3.1", "/series/{SeriesInstanceUID}").replace("1.2.3", "{StudyInstanceUID}")
        names = seen.setdefault((request.method, path, request.headers["Accept"]), set())
        names |= {pair.partition("=")[0] for pair in query.split("&") if pair}
    # an echo asks too, and is compared above
    said = {
        (row[1], row[2], row[5]): set(filter(None, row[3].split(", "))) for row in table.rows if "echo" not in row[6]
    }
    assert seen == said


def test_orthanc_s_own_interface_is_told_as_it_is_used(tmp_path: Path) -> None:
    web, data = Web(), object_of("1.2.3")
    tags = {"StudyInstanceUID": "1.2.3", "SOPInstanceUID": uid_of(data), "Modality": "CR"}
    listed = json.dumps([{"ID": "7-7", "MainDicomTags": tags}]).encode()

    def reply(request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if request.method == "POST":  # may only read, so all studies are listed
            return Reply(403)
        if path.endswith("/file"):
            return Reply(200, data, "application/dicom")
        return Reply(200, b'{"CountInstances": 1}' if path.endswith("/statistics") else listed, "application/json")

    web.reply = reply
    settings = Settings(peer=[{"name": "web", "url": web.url, "api": "orthanc"}])
    source = source_to(settings.peer[0], settings, folder=tmp_path)
    assert len(list(source.find(Wanted(modalities=("CR",))))) == 1
    assert (source.count("1.2.3"), source.fetch("1.2.3", Taken()).taken) == (1, 1)
    source.close()
    web.stop()
    asked = {f"{r.method} {r.path.removeprefix('/dicom-web').partition('?')[0]}" for r in web.requests}
    assert {one.replace("7-7", "{id}") for one in asked} == set(rest.REQUESTS)
    text = conformance.as_markdown(statement(settings, now=NOW))
    assert "web: asked for studies by the interface of Orthanc, which is none of the Standard" in text
    assert services.resources(settings) == () and services.activities(settings) == ()
