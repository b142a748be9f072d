"""Hosts that share one PostgreSQL database and one spool folder: what one leaves undone another one does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import databases_made
import pytest
from house import make_image
from running import Host
from sqlalchemy import select

from node.domain import JobState
from node.network.sender import Sender
from node.network.standin import StandIn
from node.storage import hosts, jobs
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
    return Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=host.port, timeout=30
    )


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
    assert hosts.GONE_SECONDS / 2 < time.monotonic() - began
    assert dispatch.problems() == []
