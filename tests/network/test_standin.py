"""The stand-in for a PACS: what it keeps, and how it behaves badly."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import SECONDARY_CAPTURE, Owner, data_set_of, until
from pynetdicom import AE

from node.errors import ContextRefused
from node.network import commitment
from node.network.incoming import CommitmentReport, CommitmentRequest, Reference
from node.network.link import Target, open_link
from node.network.orthanc import free_port
from node.network.sender import Sender
from node.network.standin import StandIn


def send(port: int, *paths: Path, called: str = "STANDIN") -> list[str]:
    sender = Sender(calling_ae_title="TEST", called_ae_title=called, host="127.0.0.1", port=port, timeout=5)
    kinds = [outcome.kind for _, outcome in sender.send(paths)]
    sender.close()
    return kinds


def test_an_instance_is_kept_under_its_uid(standin: StandIn, make_file: Callable[..., Path]) -> None:
    path = make_file()
    assert send(standin.port, path) == ["stored"]
    assert [kept.stem for kept in standin.received()] == [path.stem]
    assert data_set_of(standin.received()[0]) == data_set_of(path)


def test_the_same_uid_again_is_kept_once(standin: StandIn, make_file: Callable[..., Path]) -> None:
    path = make_file()
    assert send(standin.port, path, path) == ["stored", "stored"]
    assert len(standin.received()) == 1


def test_what_is_answered_with_a_failure_is_not_kept(standin: StandIn, make_file: Callable[..., Path]) -> None:
    good, coerced, bad = make_file(), make_file(), make_file()
    standin.answer = lambda uid: {coerced.stem: 0xB000, bad.stem: 0xC000}.get(uid, 0x0000)
    assert send(standin.port, good, coerced, bad) == ["stored", "warning", "permanent"]
    assert {kept.stem for kept in standin.received()} == {good.stem, coerced.stem}


def test_it_answers_to_its_own_ae_title_only(tmp_path: Path, make_file: Callable[..., Path], standin: StandIn) -> None:
    assert send(standin.port, make_file(), called="OTHER") == ["permanent"]
    assert not standin.received()


@pytest.mark.dcmtk
def test_dcmtk_is_served_too(
    standin: StandIn, dcmtk: Callable[..., subprocess.CompletedProcess[str]], pydicom_file: Callable[[str], Path]
) -> None:
    path = pydicom_file("CT_small.dcm")
    said = dcmtk("dcmsend", "-aec", "STANDIN", "127.0.0.1", standin.port, path)
    assert said.returncode == 0, said.stderr
    assert len(standin.received()) == 1


def test_it_starts_again_on_the_port_it_had(tmp_path: Path, make_file: Callable[..., Path]) -> None:
    standin = StandIn(tmp_path / "again", port=free_port())
    for _ in range(2):
        standin.start()
        assert send(standin.port, make_file()) == ["stored"]
        standin.stop()
    assert len(standin.received()) == 2


def test_stop_does_not_wait_for_whoever_is_associated(standin: StandIn) -> None:
    ae = AE("TEST")
    ae.add_requested_context("1.2.840.10008.1.1")
    assoc = ae.associate("127.0.0.1", standin.port, ae_title="STANDIN")
    assert assoc.is_established
    started = time.monotonic()
    standin.stop()
    assert time.monotonic() - started < 3
    until(lambda: not assoc.is_established)


def test_it_commits_to_what_it_keeps(
    tmp_path: Path, listening: Any, owner: Owner, make_file: Callable[..., Path]
) -> None:
    scp = StandIn(tmp_path / "committing", report_to=("127.0.0.1", listening().port))
    scp.start()
    path = make_file()
    to = Target("OVERREAD", "STANDIN", "127.0.0.1", scp.port, 5)
    sender = Sender(calling_ae_title="OVERREAD", called_ae_title="STANDIN", host="127.0.0.1", port=scp.port, timeout=5)
    list(sender.send([path]))
    sender.close()
    kept, missing = Reference(SECONDARY_CAPTURE, path.stem), Reference(SECONDARY_CAPTURE, "1.2.3")
    link = open_link(to, commitment.PAIRS)
    assert commitment.ask(link, CommitmentRequest("2.25.1", (kept, missing))).kind == "stored"
    link.close()
    until(lambda: owner.reported)
    scp.stop()
    assert owner.reported[0][1] == CommitmentReport("2.25.1", (kept,), ((missing, 0x0112),))


def test_it_offers_no_commitment_where_it_cannot_report(standin: StandIn) -> None:
    with pytest.raises(ContextRefused):
        open_link(Target("OVERREAD", "STANDIN", "127.0.0.1", standin.port, 5), commitment.PAIRS)


def test_a_clock_that_is_set_ends_no_association(monkeypatch: pytest.MonkeyPatch) -> None:
    from pynetdicom.timer import Timer

    timer = Timer(60)
    timer.start()
    now = time.time()
    for seconds in (-86400, 86400):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: now + seconds)
        assert 59 < timer.remaining <= 60
