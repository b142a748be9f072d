from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from databases_made import forget
from house import House
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, generate_uid

from config.settings import Peer
from node.domain import Gone, InstanceState, StudyState
from node.errors import StoreError
from node.network.incoming import CALLED_AE_TITLE, Requestor
from node.pipeline import identify, recover
from node.storage import instances, invariants, studies
from node.storage.spool import digest_of

Make = Callable[..., Path]


def test_an_instance_is_acknowledged_when_file_and_row_are_there(house: House, image: Make) -> None:
    path = image()
    (status,) = house.receive(path)
    assert status.code == 0x0000
    study = house.only_study()
    (instance,) = instances.of_study(house.store, study.id)
    assert instance.state is InstanceState.CURRENT
    assert dcmread(instance.path).PixelData == dcmread(path).PixelData
    assert list(house.spool.tmp.iterdir()) == []
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_the_same_bytes_again_only_count_as_a_receipt(house: House, image: Make) -> None:
    path = image()
    assert [s.code for s in house.receive(path) + house.receive(path)] == [0, 0]
    (instance,) = instances.of_study(house.store, house.only_study().id)
    assert instance.receipts == 2
    assert len(list(house.spool.objects())) == 1


def test_the_same_bytes_of_another_association_leave_the_first_file(house: House, image: Make) -> None:
    path = image()
    for association in ("a" * 12, "b" * 12):
        house.begin(association)
        assert house.put(path, association=association).code == 0
    (instance,) = instances.of_study(house.store, house.only_study().id)
    assert (instance.receipts, instance.path.name.split(".")[-2]) == (2, "a" * 12)
    assert list(house.spool.objects()) == [instance.path]
    assert invariants.verify(house.store, house.spool, house.now) == []


@pytest.mark.parametrize("association", ["a" * 12, "b" * 12])
@pytest.mark.parametrize("happened", ["deleted", "cut", "purged"])
def test_a_file_that_is_gone_is_replaced_by_the_same_bytes(
    house: House, image: Make, association: str, happened: str
) -> None:
    path = image()
    house.begin("a" * 12)
    house.put(path, association="a" * 12)
    (kept,) = house.spool.objects()
    if happened == "cut":
        kept.write_bytes(kept.read_bytes()[:-1])
    else:
        kept.unlink()
    if happened == "purged":
        with house.store.write() as connection:
            connection.exec_driver_sql("UPDATE instance SET gone = 'purged'")
    house.begin(association)
    assert house.put(path, association=association).code == 0
    (instance,) = instances.of_study(house.store, house.only_study().id)
    assert (instance.receipts, instance.gone) == (2, Gone.KEPT)
    assert digest_of(instance.path) == instance.digest
    recover.recover(house.store, house.spool, own_device_uid=house.own, now=house.now)
    assert invariants.verify(house.store, house.spool, house.now) == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"])
def test_an_instance_that_does_not_identify_itself_is_refused(house: House, image: Make, keyword: str) -> None:
    house.begin()
    path = image(**{keyword: None})
    meta = dcmread(path).file_meta
    status = house.put(path, sop=meta.MediaStorageSOPInstanceUID, cls=meta.MediaStorageSOPClassUID)
    assert status.code == 0xA900
    assert keyword in status.comment
    assert list(house.spool.objects()) == []


def test_a_data_set_that_contradicts_its_command_is_refused(house: House, image: Make) -> None:
    house.begin()
    status = house.put(image(), sop=generate_uid())
    assert (status.code, "SOPInstanceUID" in status.comment) == (0xA900, True)


@pytest.mark.filterwarnings("ignore:.*allowed.*VR UI", "ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../../../etc/evil", "1.2.\\3", "1.2." + "3" * 70, "1..2", "a.b"])
def test_a_hostile_uid_is_refused(house: House, image: Make, uid: str) -> None:
    house.begin()
    status = house.put(image(StudyInstanceUID=uid))
    assert status.code == 0xA900
    assert uid not in status.comment


def test_what_is_no_dicom_is_refused_with_a_reason(house: House, tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 200)
    with pytest.raises(identify.Unidentified, match="not a DICOM data set") as caught:
        identify.identify(path)
    assert caught.value.status.code == 0xC000


def test_a_full_disk_is_a_refusal_that_can_be_repeated(
    house: House, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    house.begin()
    monkeypatch.setattr(house.spool, "keep", full)
    status = house.put(path)
    assert status.code == 0xA700
    assert "No space left" in status.comment
    monkeypatch.undo()
    assert house.put(path).code == 0x0000


def test_a_database_that_cannot_be_written_is_a_refusal(
    house: House, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object, **__: object) -> None:
        raise StoreError("database is locked")

    monkeypatch.setattr(instances, "remember", locked)
    house.begin()
    assert house.put(image()).code == 0xA700


def test_a_file_that_was_kept_without_its_row_is_adopted_at_start(
    house: House, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise StoreError("gone")

    monkeypatch.setattr(instances, "remember", crash)
    house.begin()
    house.put(image())
    monkeypatch.undo()
    assert recover.recover(house.store, house.spool, own_device_uid=house.own, now=house.now) == 1
    study = house.only_study()
    assert (study.peer, study.state) == ("pacs", StudyState.RECEIVING)
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_a_deleted_database_is_rebuilt_from_the_spool(build: Callable[..., House], image: Make) -> None:
    house = build()
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    before = instances.of_study(house.store, house.only_study().id)
    forget(house.store)
    house.store.open()
    assert recover.recover(house.store, house.spool, own_device_uid=house.own, now=house.now) == 2
    after = instances.of_study(house.store, house.only_study().id)
    assert {(i.sop_instance_uid, i.digest, i.received_at) for i in after} == {
        (i.sop_instance_uid, i.digest, i.received_at) for i in before
    }


def test_the_same_uid_with_another_patient_id_holds_the_study(house: House, image: Make) -> None:
    first = image()
    ds = dcmread(first)
    second = image(
        **{k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}, PatientID="P2"
    )
    assert [s.code for s in house.receive(first) + house.receive(second)] == [0, 0]
    study = house.only_study()
    assert study.state is StudyState.HELD
    assert "PatientID: 'P1' was, 'P2' came" in study.reason
    assert len(list(house.spool.objects())) == 2


def test_another_patient_under_the_same_study_uid_holds_it(house: House, image: Make) -> None:
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid), image(StudyInstanceUID=uid, PatientID="P2"))
    assert house.only_study().state is StudyState.HELD


def test_an_object_without_an_image_is_a_receipt_and_reopens_nothing(house: House, image: Make) -> None:
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid))
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE study SET state = 'ROUTED'")
    report = image(StudyInstanceUID=uid, SOPClassUID=ComprehensiveSRStorage, Rows=None, Columns=None, PixelData=None)
    house.receive(report)
    study = house.only_study()
    assert study.state is StudyState.ROUTED
    assert [i.state for i in instances.of_study(house.store, study.id)] == [
        InstanceState.CURRENT,
        InstanceState.RECEIPT,
    ]


def test_our_own_picture_coming_back_is_a_receipt(house: House, image: Make) -> None:
    house.receive(image(DeviceUID=house.own))
    (instance,) = instances.of_study(house.store, house.only_study().id)
    assert instance.state is InstanceState.RECEIPT


def test_files_and_folders_are_private(house: House, image: Make) -> None:
    house.receive(image())
    for path in house.spool.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


REQUESTS = [
    ("PACS", "127.0.0.1", None),
    ("NOBODY", "127.0.0.1", (1, 1, 3)),
    ("PACS", "10.9.9.9", (1, 1, 3)),
]


@pytest.mark.parametrize(("calling", "address", "answer"), REQUESTS)
def test_nobody_associates_whom_the_settings_do_not_name(
    house: House, calling: str, address: str, answer: tuple[int, int, int] | None
) -> None:
    said = house.receiver.admit(Requestor(calling, "OVERREAD", address, 4000))
    assert (said and (said.result, said.source, said.diagnostic)) == answer
    assert said is None or said.rule


def test_without_peers_only_this_machine_may_associate(build: Callable[..., House]) -> None:
    house = build(peer=[], route=[])
    assert house.receiver.admit(Requestor("ANY", "OVERREAD", "127.0.0.1", 1)) is None
    said = house.receiver.admit(Requestor("ANY", "OVERREAD", "192.0.2.1", 1))
    assert said is not None and "only this machine" in said.rule


def test_a_peer_that_is_only_asked_for_studies_does_not_associate(build: Callable[..., House]) -> None:
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "may": ["query"]}
    said = build(peer=[pacs], route=[]).receiver.admit(Requestor("PACS", "OVERREAD", "127.0.0.1", 1))
    assert said is not None and said.rule == 'no [[peer]] that may "send" has this calling AE title'


SHOWN = "ab" * 32


@pytest.mark.parametrize(
    ("peer", "shown", "rule"),
    [
        ({}, "", "peer pacs may not come in plain: it must use TLS"),
        ({}, SHOWN, ""),
        ({"tls": False}, "", ""),
        ({"tls": False}, SHOWN, ""),
        ({"fingerprint": SHOWN.upper()}, SHOWN, ""),
        ({"fingerprint": SHOWN}, "cd" * 32, "peer pacs shows another certificate, with the fingerprint cdcd"),
        ({"fingerprint": SHOWN}, "", "peer pacs may not come in plain"),
    ],
)
def test_a_peer_is_known_by_its_certificate_too(
    build: Callable[..., House], peer: dict[str, object], shown: str, rule: str
) -> None:
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    house = build(tls={"plain": True}, peer=[pacs | peer])
    said = house.receiver.admit(Requestor("PACS", "OVERREAD", "127.0.0.1", 1, shown))
    assert (said.rule if said else "").startswith(rule) and bool(said) == bool(rule)


def test_an_association_goes_on_by_the_settings_that_it_began_with(house: House, image: Make) -> None:
    name = house.begin("d" * 12)
    archive = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 105}
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "may": ["receive"]}
    for peers in ([archive], [pacs, archive]):
        house.receiver.take_up(house.settings.model_copy(update={"peer": [Peer.model_validate(p) for p in peers]}))
        assert house.put(image(), association=name).code == 0x0000
    later = house.begin("e" * 12)
    assert house.put(image(), association=later).code == 0x0124
    refused = house.receiver.admit(Requestor("NOBODY", "OVERREAD", "127.0.0.1", 1))
    assert refused is not None and house.receiver.admit(Requestor("ARCHIVE", "OVERREAD", "127.0.0.1", 1)) is None


def test_below_the_reserve_an_association_is_rejected_for_now(build: Callable[..., House]) -> None:
    house = build(listener={"reserve_mb": 10**9})
    said = house.receiver.admit(Requestor("PACS", "OVERREAD", "127.0.0.1", 1))
    assert said is not None and (said.result, said.source, said.diagnostic) == (2, 3, 1)


def test_an_association_is_remembered_with_its_first_instance(house: House, image: Make) -> None:
    house.begin("c" * 12)
    assert studies.origin(house.store, "c" * 12) is None
    house.put(image(), association="c" * 12)
    found = studies.origin(house.store, "c" * 12)
    assert found is not None and found.peer == "pacs"
    assert house.spool.origin_of(Path(f"x.y.{'c' * 12}.dcm")) == found


def resend(image: Make, first: Path, **changed: object) -> Path:
    """The same UIDs again, otherwise as a correction would have it."""
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    return image(**(same | changed))


def test_a_correction_that_is_taken_back_holds_the_study_again(house: House, image: Make) -> None:
    first = image()
    house.receive(first)
    house.receive(resend(image, first, PatientID="P2"))
    studies.accept(house.store, house.only_study(), now=house.now)
    house.receive(first)
    study = house.only_study()
    assert (study.state, study.patient_id) == (StudyState.HELD, "P2")
    studies.accept(house.store, study, now=house.now)
    assert house.only_study().patient_id == "P1"
    states = [i.state for i in instances.of_study(house.store, study.id)]
    assert states == [InstanceState.CURRENT, InstanceState.SUPERSEDED]


def test_of_two_corrections_the_last_one_is_accepted(house: House, image: Make) -> None:
    first = image()
    house.receive(first, resend(image, first, PatientName="B"), resend(image, first, PatientName="C"))
    assert studies.accept(house.store, house.only_study(), now=house.now) == 1
    states = [i.state for i in instances.of_study(house.store, house.only_study().id)]
    assert states == [InstanceState.SUPERSEDED, InstanceState.SUPERSEDED, InstanceState.CURRENT]


def test_an_instance_that_belongs_to_another_study_leaves_the_first(house: House, image: Make) -> None:
    first = image()
    house.receive(first)
    house.receive(resend(image, first, StudyInstanceUID=generate_uid()))
    new, old = studies.latest(house.store, 10)
    assert (new.state, old.state) == (StudyState.HELD, StudyState.RECEIVING)
    studies.accept(house.store, new, now=house.now)
    assert [i.state for i in instances.of_study(house.store, old.id)] == [InstanceState.SUPERSEDED]
    assert [i.state for i in instances.of_study(house.store, new.id)] == [InstanceState.CURRENT]


def test_a_study_is_no_longer_held_when_all_that_contradicts_it_belongs_to_another(house: House, image: Make) -> None:
    first = image()
    house.receive(first)
    house.receive(resend(image, first, PatientID="P9"))
    house.receive(resend(image, first, StudyInstanceUID=generate_uid()))
    new, old = studies.latest(house.store, 10)
    assert (new.state, old.state) == (StudyState.HELD, StudyState.HELD)
    studies.accept(house.store, new, now=house.now)
    assert studies.by_id(house.store, old.id).state is StudyState.RECEIVING
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_a_study_stays_held_for_what_else_contradicts_it(house: House, image: Make) -> None:
    study = generate_uid()
    first, second = image(StudyInstanceUID=study), image(StudyInstanceUID=study)
    house.receive(first, second)
    house.receive(resend(image, second, PatientID="P9"))
    house.receive(resend(image, first, StudyInstanceUID=generate_uid()))
    new, old = studies.latest(house.store, 10)
    studies.accept(house.store, new, now=house.now)
    assert studies.by_id(house.store, old.id).state is StudyState.HELD


def test_a_rejected_image_stays_rejected_when_its_file_was_purged_and_comes_again(house: House, image: Make) -> None:
    first = image()
    wrong = resend(image, first, PatientID="P2")
    house.receive(first, wrong)
    studies.reject(house.store, house.only_study(), now=house.now)
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE instance SET gone = 'purged'")
    for path in house.spool.objects():
        path.unlink()
    house.receive(wrong)
    states = [(i.state, str(i.gone)) for i in instances.of_study(house.store, house.only_study().id)]
    assert states == [(InstanceState.CURRENT, "purged"), (InstanceState.REJECTED, "")]


def test_an_altered_file_is_mended_when_its_sender_sends_it_again(house: House, image: Make) -> None:
    path = image()
    house.receive(path)
    kept = next(iter(house.spool.objects()))
    kept.write_bytes(kept.read_bytes()[:-1] + b"X")
    house.receive(path)
    (instance,) = instances.of_study(house.store, house.only_study().id)
    assert dcmread(instance.path).PixelData == dcmread(path).PixelData
    assert digest_of(instance.path) == instance.digest


def test_a_file_that_is_purged_while_it_is_sent_again_is_there_afterwards(house: House, image: Make) -> None:
    path = image()
    house.receive(path)
    with house.store.write() as connection:
        connection.exec_driver_sql("UPDATE instance SET gone = 'purged'")
    house.receive(path)
    recover.recover(house.store, house.spool, own_device_uid=house.own, now=house.now)
    (instance,) = instances.of_study(house.store, house.only_study().id)
    assert instance.path.is_file()
    assert invariants.verify(house.store, house.spool, house.now) == []


@pytest.mark.parametrize("keyword", [b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US", b"\x10\x00\x20\x00LO"])
def test_a_value_that_cannot_be_read_is_refused_with_its_reason(house: House, image: Make, keyword: bytes) -> None:
    path = image()
    data = path.read_bytes()
    # An SL needs four bytes; these have two
    assert keyword in data
    path.write_bytes(data.replace(keyword, keyword[:4] + b"SL"))
    (status,) = house.receive(path)
    assert status.code == 0xC000
    assert "BytesLengthException" in status.comment
    assert list(house.spool.objects()) == []


def test_the_dispatch_role_hears_of_beginnings_and_ends_and_not_of_each_image(house: House, image: Make) -> None:
    uid = generate_uid()
    first = image(StudyInstanceUID=uid)
    ear = house.bell.listen("dispatch")
    try:

        def heard(*files: Path) -> list[bool]:
            return [bool(house.put(path).code == 0 and ear.wait(0.001)) for path in files]

        house.begin()
        assert heard(first, image(StudyInstanceUID=uid), image(StudyInstanceUID=uid)) == [True, False, False]
        assert heard(resend(image, first, StudyInstanceUID=uid, BitsStored=12)) == [True]  # to be compared
        with house.store.write() as connection:
            connection.exec_driver_sql("UPDATE study SET state = 'ROUTED'")
        assert heard(image(StudyInstanceUID=uid), image(StudyInstanceUID=uid)) == [True, False]  # reopened
        assert heard(image(StudyInstanceUID=uid, PatientID="P2")) == [True]  # held
        house.receiver.on_end("a" * 12, "released")
        assert ear.wait(0.001)
    finally:
        ear.close()


def test_an_audit_trail_that_a_reload_begins_or_ends_knows_of_who_is_refused(house: House) -> None:
    on_reject = house.receiver.callbacks().on_reject  # as the listener got it when it started
    stranger = Requestor("STRANGER", "SOMEBODY", "10.9.9.9", 4000)
    trail = house.settings.audit.model_copy(update={"file": house.folder / "audit.xml"})
    kept = house.settings.model_copy(update={"audit": trail})
    for settings, rows in ((house.settings, 0), (kept, 1), (house.settings, 0)):
        house.receiver.take_up(settings)
        house.now += 120
        on_reject(stranger, CALLED_AE_TITLE)
        assert house.receiver.rejections.put_down() == rows
