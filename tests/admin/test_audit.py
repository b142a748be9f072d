"""The audit trail: messages as PS3.15 A.5 has them, from what really happened, each once, and none lost."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from certificates import Authority
from databases_made import place, where
from rows import NOW, ORIGIN, built, received
from told_here import Syslog, closed_port, serving

from config.settings import Settings
from node.admin import alarms, audit
from node.admin.audit import Auditor
from node.admin.metrics import Exporter
from node.domain import JobState, Matched, Study
from node.network.incoming import CALLED_AE_TITLE, MAX_ASSOCIATIONS, Requestor
from node.network.syslog import framed
from node.pipeline import rejected
from node.pipeline.rejected import Rejections
from node.storage import auditing, deliveries, instances, jobs, queue, routing, schema, studies
from node.storage.store import Store

# PS3.15 Table A.5.2-1 and A.5.1: of each element the attributes that it must and may have, and its children in order
SHAPE: dict[str, tuple[set[str], set[str], list[str]]] = {
    "AuditMessage": (
        set(),
        set(),
        ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification"],
    ),
    "EventIdentification": (
        {"EventActionCode", "EventDateTime", "EventOutcomeIndicator"},
        set(),
        ["EventID", "EventTypeCode"],
    ),
    "ActiveParticipant": (
        {"UserID", "UserIsRequestor"},
        {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
        ["RoleIDCode"],
    ),
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"}, []),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID", "ParticipantObjectTypeCode"},
        {"ParticipantObjectTypeCodeRole"},
        ["ParticipantObjectIDTypeCode", "ParticipantObjectName", "ParticipantObjectDescription"],
    ),
    "ParticipantObjectDescription": (set(), set(), ["Accession", "SOPClass"]),
    "Accession": ({"Number"}, set(), []),
    "SOPClass": ({"NumberOfInstances"}, {"UID"}, []),
    "ParticipantObjectName": (set(), set(), []),
}
CODED = {"EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode"}
VALUES = {
    "EventActionCode": set("CRUDE"),
    "EventOutcomeIndicator": {"0", "4", "8", "12"},
    "UserIsRequestor": {"true", "false"},
    "NetworkAccessPointTypeCode": set("12345"),
    "ParticipantObjectTypeCode": set("1234"),
}


def check(element: ET.Element) -> None:
    """Hold one element and all below against the rules."""
    if element.tag in CODED:
        assert set(element.attrib) == {"csd-code", "codeSystemName", "originalText"}
        assert all(element.attrib.values())
        return
    must, may, children = SHAPE[element.tag]
    assert must <= set(element.attrib) <= must | may, element.tag
    for name, value in element.attrib.items():
        assert value and value in VALUES.get(name, {value}), name
    tags = [child.tag for child in element]
    assert tags == sorted(tags, key=children.index), element.tag
    if element.tag == "AuditMessage":
        assert tags.count("EventIdentification") == tags.count("AuditSourceIdentification") == 1
        assert "ActiveParticipant" in tags
    for child in element:
        check(child)


def parsed(text: str) -> ET.Element:
    message = ET.fromstring(text)
    check(message)
    return message


def what(message: ET.Element) -> tuple[str, ...]:
    """Its event, type of event and outcome."""
    about = message.find("EventIdentification")
    assert about is not None
    return (*(child.attrib["originalText"] for child in about), about.attrib["EventOutcomeIndicator"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(place(tmp_path), tmp_path / "spool")
    made.open()
    made.spool.open()
    yield made
    made.close()


Make = Callable[..., Settings]


@pytest.fixture
def settings(tmp_path: Path) -> Make:
    def make(**said: Any) -> Settings:
        peer = {"name": "pacs", "ae_title": "PACS", "host": "10.1.2.3", "port": 104}
        trail = said or {"file": tmp_path / "audit.xml"}
        return Settings(node={"data_dir": tmp_path, "organisation": "St. Mary"}, peer=[peer], audit=trail)  # type: ignore[arg-type]

    return make


def told(settings: Settings) -> list[ET.Element]:
    assert settings.audit.file
    return [parsed(line) for line in settings.audit.file.read_text().splitlines()]


def receive(store: Store, uid: str = "1.2.840.1", *, association: str = "b" * 12, images: int = 2) -> Study:
    origin = type(ORIGIN)(**(vars(ORIGIN) | {"id": association}))
    studies.begin_association(store, origin)
    for number in range(1, images + 1):
        one = received(store, uid, number)
        study = instances.remember(store, one, origin, own_device_uid="", now=NOW + number).study
    studies.end_association(store, association, "released", now=NOW + 9)
    return study


def send(store: Store, study: Study) -> None:
    settled = studies.settle(store, studies.by_id(store, study.id), "test", image_digest="x", now=NOW + 12)
    assert settled is not None
    members = tuple(i.id for i in instances.of_study(store, study.id))
    wanted = routing.Wanted(Matched("chest", members, "all"), "chest@1.0.0", {"pacs": []})
    routing.route(store, settled, [wanted], now=NOW + 13)
    (work,) = queue.claim(store, "w", 1, now=NOW + 14, lease=60)
    made = [built(store, "2.25.7"), built(store, "2.25.8", "sc")]
    assert jobs.finish(store, work.job, JobState.DONE, [], made, reason="", now=NOW + 15)
    for n, delivery in enumerate(deliveries.claim(store, "pacs", 10, now=NOW + 16, lease=60)):
        deliveries.sent(store, delivery, status=0, note="", now=NOW + 17 + n)


def test_what_came_and_what_left_is_told_by_association_study_and_peer(store: Store, settings: Make) -> None:
    now = [NOW]
    auditor = Auditor(store, settings=settings(), clock=lambda: now[0])
    assert auditor.step() == 1
    study = receive(store)
    send(store, study)
    now[0] += 30
    assert auditor.step() == 2
    start, came, left = told(settings())
    assert what(start) == ("Application Activity", "Application Start", "0")
    assert what(came) == what(left) == ("DICOM Instances Transferred", "0")
    for message, action, sizes in ((came, "C", {"1.2": "2"}), (left, "R", {"1.2.840.10008.5.1.4.1.1.88.34": "2"})):
        about = message.find("EventIdentification")
        assert about is not None and about.attrib["EventActionCode"] == action
        study_said, patient = message.findall("ParticipantObjectIdentification")
        assert study_said.attrib["ParticipantObjectID"] == "1.2.840.1"
        assert (patient.attrib["ParticipantObjectID"], patient.attrib["ParticipantObjectTypeCodeRole"]) == ("P1", "1")
        classes = study_said.findall("ParticipantObjectDescription/SOPClass")
        assert {c.attrib["UID"]: c.attrib["NumberOfInstances"] for c in classes} == sizes
        roles = {p[0].attrib["csd-code"]: p.attrib for p in message.findall("ActiveParticipant")}
        assert set(roles) == {"110153", "110152"}
        us, them = (roles["110152"], roles["110153"]) if message is came else (roles["110153"], roles["110152"])
        assert us["UserID"].startswith("OVERREAD@") and them["AlternativeUserID"] == "AETITLES=PACS"
    source = came.find("AuditSourceIdentification")
    assert source is not None and source.attrib["AuditEnterpriseSiteID"] == "St. Mary"
    now[0] += 30
    assert auditor.step() == 0, "each is told once"


def test_an_association_that_is_open_is_not_told_yet(store: Store, settings: Make) -> None:
    auditor = Auditor(store, settings=settings(), clock=lambda: NOW)
    auditor.step()
    studies.begin_association(store, ORIGIN)
    instances.remember(store, received(store, "1.2.1"), ORIGIN, own_device_uid="", now=NOW)
    auditor.sweep(NOW)
    assert auditing.waiting(store, "file", 10) == []


def test_what_was_before_there_was_a_trail_is_not_told(store: Store, settings: Make) -> None:
    send(store, receive(store))
    Auditor(store, settings=settings(), clock=lambda: NOW).step()
    assert [what(m)[0] for m in told(settings())] == ["Application Activity"]


def test_a_kill_between_two_steps_loses_nothing(store: Store, settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    auditor = Auditor(store, settings=settings(), clock=lambda: NOW)
    auditor.step()
    send(store, receive(store))
    monkeypatch.setattr(audit, "append", lambda file, texts: (_ for _ in ()).throw(SystemExit))
    auditor._swept_at = 0
    with pytest.raises(SystemExit):
        auditor.step()
    monkeypatch.undo()
    Auditor(store, settings=settings(), clock=lambda: NOW + 60).step()
    events = [what(m)[0] for m in told(settings())]
    assert events.count("DICOM Instances Transferred") == 2


def test_whoever_was_not_let_in_is_told_of_once_a_minute(store: Store, settings: Make) -> None:
    now = [NOW]
    auditor = Auditor(store, settings=settings(), clock=lambda: now[0])
    auditor.step()
    counted = Rejections(store, kept=lambda: True, clock=lambda: now[0])
    stranger = Requestor("STRANGER\x07", "SOMEBODY", "10.9.9.9", 4000)
    counted.note(stranger, CALLED_AE_TITLE)
    assert counted.put_down() == 1, "the first one at once"
    for _ in range(50):
        counted.note(stranger, CALLED_AE_TITLE)
    assert counted.put_down() == 0
    now[0] += 61
    assert counted.put_down() == 1
    auditor.step()
    first, rest = told(settings())[1:]
    assert what(first) == what(rest) == ("Security Alert", "Node Authentication", "4")
    names = [m.findtext("ParticipantObjectIdentification/ParticipantObjectName") for m in (first, rest)]
    rule = "called AE title not recognized; called SOMEBODY"
    assert names == [f"1 associations rejected: {rule}", f"50 associations rejected: {rule}"]
    callers = {p.attrib["UserID"] for p in first.findall("ActiveParticipant")}
    assert "STRANGER?" in callers


def test_a_scan_of_the_port_fills_no_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejected, "KINDS", 10)
    counted = Rejections(store, kept=lambda: True, clock=lambda: NOW)
    for n in range(1000):
        counted.note(Requestor(f"AE{n}", "X", "10.0.0.1", n), MAX_ASSOCIATIONS)
    assert counted.put_down() == 11
    with store.read() as connection:
        assert sum(row.times for row in connection.execute(schema.rejection.select())) == 1000


def test_what_people_do_is_told_with_their_names(store: Store, settings: Make) -> None:
    said = settings()
    auditor = Auditor(store, settings=said, clock=lambda: NOW)
    auditor.step()
    study = receive(store)
    audit.authenticated(store, said, "jane", login=True, address="10.1.1.1", now=NOW)
    audit.authenticated(store, said, "jane", login=True, well=False, address="10.1.1.1", now=NOW)
    audit.opened(store, said, "jane", study, address="10.1.1.1", now=NOW)
    audit.authenticated(store, said, "jane", login=False, now=NOW)
    auditor.step()
    found = told(said)[1:]
    assert [what(m) for m in found] == [
        ("User Authentication", "Login", "0"),
        ("User Authentication", "Login", "4"),
        ("DICOM Instances Accessed", "0"),
        ("User Authentication", "Logout", "0"),
    ]
    assert all(m.findall("ActiveParticipant")[0].attrib["UserID"] == "jane" for m in found)


def test_other_settings_than_before_are_an_alert_and_a_stop_is_told(store: Store, settings: Make) -> None:
    Auditor(store, settings=settings(), clock=lambda: NOW).step()
    changed = settings().model_copy(update={"peer": []})
    auditor = Auditor(store, settings=changed, clock=lambda: NOW)
    auditor.step()
    auditor.close()
    assert [what(m)[:2] for m in told(settings())][1:] == [
        ("Application Activity", "Application Start"),
        ("Security Alert", "Security Configuration"),
        ("Application Activity", "Application Stop"),
    ]


def test_the_file_is_nobody_elses_and_may_be_rotated(tmp_path: Path) -> None:
    file = tmp_path / "audit.xml"
    audit.append(file, ["<a/>"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.rename(tmp_path / "audit.xml.1")
    audit.append(file, ["<b/>", "<c\n/>"])
    assert file.read_text() == "<b/>\n<c />\n"


def test_without_a_trail_nothing_is_kept_of_people(store: Store, settings: Make, tmp_path: Path) -> None:
    none = settings().model_copy(update={"audit": settings().audit.model_copy(update={"file": None})})
    audit.authenticated(store, none, "jane", login=True, now=NOW)
    assert auditing.behind(store) == auditing.Behind(0, None, 0, None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def test_a_syslog_server_gets_what_it_missed(store: Store, settings: Make, authority: Authority) -> None:
    ours = authority.files("node")
    port, now = closed_port(), [NOW]
    shown = {"authorities": authority.path, "certificate": ours.certificate, "key": ours.key}
    said = settings(syslog=f"tls://127.0.0.1:{port}", **shown)
    auditor = Auditor(store, settings=said, clock=lambda: now[0])
    assert auditor.step() == 0
    receive(store)
    now[0] += 31
    auditor.step()
    assert auditing.behind(store).waiting == 2, "an outage loses nothing"
    with serving(Syslog(authority.files("audit"))) as server:
        said = settings(syslog=f"tls://127.0.0.1:{server.port}", **shown)
        assert Auditor(store, settings=said, clock=lambda: now[0]).step() == 4
    assert auditing.behind(store) == auditing.Behind(0, None, 0, None)
    heads, bodies = zip(*(got.split(" - \ufeff") for got in server.got), strict=True)
    assert all(head.startswith("<85>1 2027-01-15T08:00:") and head.endswith("DICOM+RFC3881") for head in heads)
    assert [what(parsed(body))[0] for body in bodies] == [
        "Application Activity",
        "DICOM Instances Transferred",
        "Application Activity",
        "Security Alert",  # another server in the settings
    ]


def test_a_server_with_a_certificate_of_somebody_else_gets_nothing(
    store: Store, settings: Make, authority: Authority, tmp_path: Path
) -> None:
    ours = authority.files("node")
    shown = {"authorities": authority.path, "certificate": ours.certificate, "key": ours.key}
    with serving(Syslog(Authority(tmp_path / "other").files("audit"))) as server:
        said = settings(syslog=f"tls://127.0.0.1:{server.port}", **shown)
        assert Auditor(store, settings=said, clock=lambda: NOW).step() == 0
    assert server.got == []
    assert auditing.behind(store).waiting == 1


def test_too_many_that_wait_are_dropped_and_counted(store: Store) -> None:
    auditing.put(store, [f"<m n='{n}'/>" for n in range(12)], auditing.Queue(("file",), 10), now=NOW)
    assert auditing.behind(store) == auditing.Behind(10, NOW, 2, NOW)
    auditing.put(store, ["<m/>"], auditing.Queue(("file",), 10), now=NOW + 5)
    assert auditing.behind(store) == auditing.Behind(10, NOW, 3, NOW + 5)


def test_dropped_messages_are_an_alarm_for_a_day_and_counted_for_ever(store: Store, settings: Make) -> None:
    said = settings()
    auditing.put(store, ["<m/>"] * 3, auditing.Queue(("file",), 1), now=NOW)

    def raised(at: float) -> list[str]:
        counts = studies.counts(store)
        found = alarms.at_a_glance(said, store, store.spool, counts, now=at)
        return [a.text for a in found if a.key == "audit.dropped"]

    assert raised(NOW + 3600) == ["2 audit messages were dropped so far"]
    assert raised(NOW + 86401) == []
    text, _ = Exporter(said, store, store.spool).rendered()
    assert b"overread_dropped_audit_messages_total 2.0" in text


def test_a_message_has_its_length_in_front() -> None:
    frame = framed("<ä/>", host="here", now=NOW)
    length, _, message = frame.partition(b" ")
    assert int(length) == len(message)
    assert message.endswith("\ufeff<ä/>".encode())


def test_what_came_is_read_while_others_write(
    store: Store, settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Auditor(store, settings=settings(), clock=lambda: NOW).step()
    for n in range(12):
        receive(store, f"1.2.840.{n}", association=f"{n:012}")
    other = Store(where(store), tmp_path / "spool")
    writer = audit.Writer(settings())

    def said(moved: auditing.Moved) -> str:
        auditing.put(other, ["<meanwhile/>"], auditing.Queue(("other",), 100), now=NOW)
        return writer.received(moved)

    line = audit.queue_of(settings())
    assert [auditing.received(store, said, line, now=NOW + 20) for _ in range(3)] == [10, 2, 0]
    other.close()
    assert (len(auditing.waiting(store, "other", 100)), len(auditing.waiting(store, "file", 100))) == (12, 12)


def test_one_association_with_two_studies_is_told_by_each(store: Store, settings: Make) -> None:
    Auditor(store, settings=settings(), clock=lambda: NOW).step()
    studies.begin_association(store, ORIGIN)
    for uid, number in (("1.2.1", 1), ("1.2.2", 1), ("1.2.1", 2)):
        instances.remember(store, received(store, uid, number), ORIGIN, own_device_uid="", now=NOW)
    studies.end_association(store, ORIGIN.id, "released", now=NOW + 9)
    found: list[tuple[str, int]] = []

    def said(moved: auditing.Moved) -> str:
        found.append((moved.study.study_instance_uid, len(moved.instances)))
        return "<m/>"

    auditing.received(store, said, audit.queue_of(settings()), now=NOW + 20)
    assert found == [("1.2.1", 2), ("1.2.2", 1)]


def test_no_sender_can_spoil_a_message(store: Store, settings: Make) -> None:
    writer = audit.Writer(settings())
    every = "".join(map(chr, [*range(0x20), 0x7F, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF]))
    study = replace(receive(store), patient_id=f"A{every}\U0001f600Z", accession_number=every)
    message = parsed(writer.accessed(f"jane{every}", study, address="10.0.0.1", at=NOW))
    patient = message.findall("ParticipantObjectIdentification")[-1]
    shown = patient.attrib["ParticipantObjectID"]
    assert shown[0] == "A" and shown.endswith("\x7f" + "\ufffd" * 4 + "\U0001f600Z")
    assert shown.count("\ufffd") == 0x20 - 3 + 4, "what may stand there stays"
    writer.accessed("jane", study, address="", at=NOW).encode()
