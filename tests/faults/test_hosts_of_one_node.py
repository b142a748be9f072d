"""Hosts that share one PostgreSQL database and one spool folder: what one leaves undone another one does."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import databases_made
import pytest
from house import make_image
from modality_made import Modality
from pydicom import dcmread
from running import Host
from sqlalchemy import select

from node.admin import health
from node.domain import JobState
from node.network.sender import Sender
from node.network.standin import StandIn
from node.storage import hosts, invariants, jobs, pace, studies
from node.storage.roles import ROLES
from node.storage.schema import job

pytestmark = [pytest.mark.fault, pytest.mark.slow]

Make = Callable[..., Host]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def make(tmp_path: Path, pacs: StandIn) -> Iterator[Make]:
    made: list[Host] = []
    url = databases_made.server().new()

    def host(*roles: str, **more: object) -> Host:
        folder = tmp_path / f"{len(made)}-{'-'.join(roles)}"
        made.append(Host(folder, ("PACS", pacs.port), url, tmp_path / "shared", *roles, stub=True, **more))
        return made[-1]

    yield host
    for one in made:
        one.kill()
        one.stop()


def films(folder: Path, count: int, study: str) -> list[Path]:
    same = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
    return [make_image(folder / f"{study}.{n}.dcm", SOPInstanceUID=f"{study}.1.{n}", **same) for n in range(count)]


def sender(host: Host) -> Sender:
    return Sender(calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=host.port, timeout=30)


def send(host: Host, files: list[Path]) -> None:
    one = sender(host)
    assert [outcome.kind for _, outcome in one.send(files)] == ["stored"] * len(files)
    one.close()


def working(host: Host) -> str:
    """Who has a job now."""
    with host.parts.store.read() as connection:
        return connection.execute(select(job.c.worker).where(job.c.state == JobState.LEASED)).scalar() or ""


def test_roles_on_hosts_of_their_own_and_one_that_dies(make: Make, pacs: StandIn, tmp_path: Path) -> None:
    receivers = [make("receive"), make("receive")]
    infer, other, dispatch = make("infer"), make("infer"), make("dispatch", "web")
    everybody = [*receivers, infer, dispatch]
    for host in everybody:
        host.start(wait=False)
    for host in everybody:
        host.wait_for(host.is_ready, seconds=90)
    # two receivers get one study's instances by halves
    halves = films(tmp_path, 6, "1.2.826.1")
    threads = [threading.Thread(target=send, args=[r, halves[n::2]]) for n, r in enumerate(receivers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = dispatch.finish("1.2.826.1")
    assert study.revision == 1
    assert [one.state for one in jobs.of_study(dispatch.parts.store, study.id)] == [JobState.DONE]
    assert len(pacs.received()) == len(jobs.results(dispatch.parts.store, study.id))
    # the infer host dies while it holds a lease
    other.start()
    infer.order("always hang")
    other.order("hang")
    send(receivers[0], films(tmp_path, 1, "1.2.826.2"))

    worker = dispatch.wait_for(lambda: working(dispatch))
    ids = {host.parts.store.host: host for host in (infer, other)}
    victim = next(host for name, host in ids.items() if f"@{name}/" in worker)
    survivor = other if victim is infer else infer
    (survivor.folder / "stub").unlink(missing_ok=True)
    victim.kill()
    began = time.monotonic()
    dispatch.finish("1.2.826.2", seconds=110)
    assert time.monotonic() - began > hosts.GONE_SECONDS / 2
    assert dispatch.problems() == []


def refused(host: Host) -> bool:
    """Whether its port takes no connection."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", host.port)) != 0


def test_a_receiver_that_is_brought_up_to_date_finishes_what_it_has_begun(make: Make, tmp_path: Path) -> None:
    old, new = (make("receive", OVERREAD_LISTENER__DRAIN_SECONDS="60") for _ in range(2))
    rest = make("infer", "dispatch")
    for host in (old, new, rest):
        host.start(wait=False)
    for host in (old, new, rest):
        host.wait_for(host.is_ready, seconds=90)
    long, study = sender(old), films(tmp_path, 40, "1.2.826.3")
    assert old.process
    for n, (_, outcome) in enumerate(long.send(study)):
        assert outcome.kind == "stored"
        if n == 5:
            old.process.terminate()
            old.wait_for(lambda: refused(old))
            # whoever comes now is sent to the other one by what stands before them
            send(new, films(tmp_path, 2, "1.2.826.4"))
        time.sleep(0.1)
    assert old.said()["receive"]["state"] == "stopping"
    long.close()
    assert old.process.wait(20) == 0
    old.process = None
    assert rest.finish("1.2.826.3").revision == 1
    assert rest.finish("1.2.826.4").revision == 1
    assert [host.id for host in hosts.known(rest.parts.store) if host.runs("receive")] == [new.parts.store.host]
    assert rest.problems() == []


@pytest.fixture
def server() -> Iterator[databases_made.Server]:
    """One that may be stopped and killed."""
    made = databases_made.fresh()
    made.start()
    yield made
    made.end()


@pytest.fixture
def whole(tmp_path: Path, pacs: StandIn, server: databases_made.Server) -> Iterator[Host]:
    """All roles on one host."""
    node = Host(tmp_path / "node", ("PACS", pacs.port), server.new(), tmp_path / "shared", *ROLES, stub=True)
    yield node
    node.kill()
    node.stop()


def test_the_server_dies_while_images_come_and_results_go(
    whole: Host, server: databases_made.Server, pacs: StandIn, tmp_path: Path
) -> None:
    whole.start()
    (tmp_path / "sent").mkdir()
    sending = Modality([("127.0.0.1", whole.port)], tmp_path / "sent", 0.0, 3, most=16)
    sending.start()
    for part in (3, 7, 11):
        whole.wait_for(lambda part=part: len(sending.studies) >= part, seconds=120)
        server.kill()
        time.sleep(1)
        server.start()
    sending.join(180)
    assert len(sending.studies) == 16
    for uid in sending.studies:
        whole.finish(uid, seconds=120)
    tags = ["StudyInstanceUID", "Modality"]
    objects = [dcmread(path, stop_before_pixels=True, specific_tags=tags) for path in pacs.received()]
    reports = Counter(ds.StudyInstanceUID for ds in objects if ds.Modality == "SR")
    store = whole.parts.store
    read = {
        study.study_instance_uid: sum(job.state is JobState.DONE for job in jobs.of_study(store, study.id))
        for study in studies.latest(store, 100)
    }
    assert read == reports and read.keys() == sending.studies.keys() and min(read.values()) == 1
    assert sending.repeats > 0
    assert {said["state"] for said in whole.said().values()} == {"ready"}
    assert whole.problems() == []


def test_while_the_database_server_is_away_everybody_waits(
    whole: Host, server: databases_made.Server, tmp_path: Path
) -> None:
    server.stop()
    _goes_away(whole, server, tmp_path)


def _goes_away(node: Host, server: databases_made.Server, folder: Path) -> None:
    node.start(wait=False)
    node.wait_for(lambda: "database.waiting" in node.log and "127.0.0.1" in node.log)
    server.start()
    node.wait_for(node.is_ready, seconds=60)
    before = node.said()
    one, (first, second, third) = sender(node), films(folder, 3, "1.2.826.5")
    assert [outcome.kind for _, outcome in one.send([first])] == ["stored"]
    # one study is being read when the server stops
    node.finish("1.2.826.5")
    node.order("slow")
    send(node, films(folder, 1, "1.2.826.6"))
    node.wait_for(lambda: working(node))
    server.stop()
    ((_, outcome),) = one.send([second])
    assert outcome.status == 0xA700
    one.close()  # that it ended is put down later
    another = sender(node)
    ((_, outcome),) = another.send([third])
    assert outcome.status == 0xA700
    another.close()
    assert health.ready(node.settings).checks["database"].startswith("the database does not answer: connection failed")
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{node.settings.web.address}/readyz", timeout=20)
    time.sleep(3)
    server.start()
    began = time.monotonic()
    node.wait_for(lambda: _stored(node, second, third), seconds=20)
    node.finish("1.2.826.5", revision=2)
    node.finish("1.2.826.6")
    assert time.monotonic() - began < 60, "nothing waits for a lease that nobody holds"
    assert {name: said["pid"] for name, said in node.said().items()} == {n: said["pid"] for n, said in before.items()}
    node.wait_for(lambda: pace.open_associations(node.parts.store) == 0)
    # also of what was refused after its file was kept
    assert invariants.verify(node.parts.store, node.parts.spool, node.parts.store.now() + 120) == []


def _stored(node: Host, *files: Path) -> bool:
    one = sender(node)
    outcomes = [outcome.kind for _, outcome in one.send(files)]
    one.close()
    return outcomes == ["stored"] * len(files)
