"""`overread pull` as a person types it, against a real Orthanc and DCMTK's dcmqrscp, while the node runs or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import make_image
from network.peers import listens
from pydicom import dcmread
from pydicom.uid import generate_uid
from running import ROUTE, RunningNode

from node.domain import StudyState
from node.network.orthanc import Orthanc, free_port
from node.network.sender import Sender
from node.storage import deliveries, instances, jobs, pulled, studies

pytestmark = [pytest.mark.slow]
SHADOW = ROUTE + '\n[[route]]\nname = "trial"\nbundle = "chest-findings"\ndeliver_to = ["pacs"]\n'
ASKED = '\n[[peer]]\nname = "asked"\nae_title = "{0}"\nhost = "127.0.0.1"\nport = {1}\nproof = "none"\n{2}\n'


class Asking:
    """A node that may ask one PACS, and the program as it is typed."""

    def __init__(self, folder: Path, pacs: tuple[str, int], more: str, *, port: int = 0) -> None:
        # results go to a PACS that is not there: that something would be delivered can be seen by its rows
        asked = ASKED.format(*pacs, more)
        self.node = RunningNode(folder, ("NOBODY", free_port()), port=port, stub=True, route=SHADOW + asked)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "node.cli", *arguments, "--config", str(self.node.file)]

    def __call__(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """The exit code, the last JSON object, and what was said besides."""
        done = subprocess.run(
            self.command(*arguments, "--json"), capture_output=True, text=True, timeout=120, check=False
        )
        lines = done.stdout.splitlines()
        return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr

    def route(self, uids: list[str]) -> None:
        """Wait until all are settled and routed."""

        def routed() -> bool:
            there = studies.in_state(self.node.parts.store, StudyState.ROUTED)
            return {s.study_instance_uid for s in there} == set(uids)

        self.node.wait_for(routed, seconds=60)

    def finish(self, uids: list[str]) -> None:
        for uid in uids:
            self.node.wait_for(lambda uid=uid: self._analysed(uid), seconds=90)

    def _analysed(self, uid: str) -> bool:
        study = self.node.study(uid)
        ran = jobs.of_study(self.node.parts.store, study.id) if study else []
        return bool(study and study.state is StudyState.ROUTED and ran and all(j.finished_at for j in ran))

    def counts(self, uid: str) -> tuple[int, int, int]:
        """Instances, jobs and deliveries of a study."""
        store, study = self.node.parts.store, self.node.study(uid)
        assert study
        ran = jobs.of_study(store, study.id)
        return len(instances.of_study(store, study.id)), len(ran), len(deliveries.of_study(store, study.id))


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    return [make_image(tmp_path / f"film{n}.dcm", AccessionNumber=f"ACC{n}") for n in range(30)]


def uids_of(films: list[Path]) -> list[str]:
    return [str(dcmread(film, stop_before_pixels=True).StudyInstanceUID) for film in films]


@pytest.fixture
def orthanc_asked(program: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., tuple[Asking, Orthanc]]]:
    program("Orthanc")
    ends: list[Callable[[], object]] = []

    def make(films: list[Path], more: str, *, get: bool = True, knows: bool = True) -> tuple[Asking, Orthanc]:
        port = free_port()
        node = {"AET": "OVERREAD", "Host": "127.0.0.1", "Port": port, "AllowGet": get, "AllowMove": True}
        others = {"AET": "SOMEBODY", "Host": "127.0.0.1", "Port": 104}
        folder = tmp_path / "orthanc"
        folder.mkdir()
        orthanc = Orthanc(
            folder,
            node_ae_title="OVERREAD",
            node_port=port,
            DicomModalities={"node": node if knows else others},
        )
        orthanc.start()
        for film in films:
            orthanc.upload(film)
        asking = Asking(tmp_path / "node", (orthanc.ae_title, orthanc.port), more, port=port)
        ends.extend([asking.node.stop, orthanc.stop])
        return asking, orthanc

    yield make
    for end in ends:
        end()


GET = 'may = ["query"]'
MOVE = 'may = ["query", "send"]\nretrieve = "move"'


@pytest.mark.orthanc
@pytest.mark.parametrize("peer", [GET, MOVE], ids=["get", "move"])
def test_thirty_studies_of_orthanc_come_once_settle_and_are_routed(
    orthanc_asked: Callable[..., tuple[Asking, Orthanc]], films: list[Path], peer: str
) -> None:
    asking, _ = orthanc_asked(films, peer)
    asking.node.start()
    code, said, _ = asking("pull", "--from", "asked", "--since", "2020-01-01", "--modality", "CR,DX")
    assert (code, said["state"], said["studies"]["DONE"]) == (0, "DONE", 30)
    uids = uids_of(films)
    asking.route(uids)
    assert {asking.counts(uid)[:2] for uid in uids} == {(1, 2)}
    # both routes, each with a report and a picture for the PACS
    first = studies.by_id(asking.node.parts.store, 1).study_instance_uid
    asking.finish([first])
    assert asking.counts(first) == (1, 2, 4)
    assert {
        pulled.of_study(asking.node.parts.store, s.id)[0].pull for s in studies.latest(asking.node.parts.store, 99)
    } == {1}
    assert asking.node.problems() == []
    code, said, _ = asking("pull", "--from", "asked", "--since", "2020-01-01")
    assert (code, said["studies"]["DONE"]) == (0, 30)
    assert {asking.counts(uid)[:2] for uid in uids} == {(1, 2)}
    assert {s.revision for s in studies.latest(asking.node.parts.store, 99)} == {1}


@pytest.mark.orthanc
@pytest.mark.parametrize("peer", [GET, MOVE], ids=["get", "move"])
def test_a_cohort_is_read_by_its_route_and_nothing_is_delivered_until_the_pacs_sends_it(
    orthanc_asked: Callable[..., tuple[Asking, Orthanc]], films: list[Path], tmp_path: Path, peer: str
) -> None:
    asking, orthanc = orthanc_asked(films[:4], peer)
    listed = tmp_path / "cohort.csv"
    listed.write_text("﻿Accession Number;note\nACC1;a\nACC2;b\nACC77;c\n", encoding="utf-8")
    asking.node.start()
    code, said, errors = asking(
        "pull", "--from", "asked", "--accessions", str(listed), "--route", "trial", "--mode", "shadow"
    )
    assert (code, said["missing"], said["studies"]["DONE"]) == (1, ["ACC77"], 2), errors
    uids = uids_of(films[1:3])
    asking.finish(uids)
    assert {asking.counts(uid) for uid in uids} == {(1, 1, 0)}
    shown = subprocess.run(asking.command("show", uids[0]), capture_output=True, text=True, check=True).stdout
    assert "pulled from asked by pull #1, for route trial only, shadow: nothing is delivered" in shown
    # a modality sends one of them: it is read by all routes, and delivered
    one = Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=asking.node.port, timeout=10
    )
    assert [outcome.kind for _, outcome in one.send([films[1]])] == ["stored"]
    one.close()
    asking.node.wait_for(lambda: asking.counts(uids[0]) == (1, 3, 4), seconds=90)
    assert asking.counts(uids[1]) == (1, 1, 0)
    assert orthanc.instances(uids[1])


@pytest.mark.orthanc
def test_a_pull_that_is_killed_goes_on_while_no_node_runs(
    orthanc_asked: Callable[..., tuple[Asking, Orthanc]], films: list[Path]
) -> None:
    asking, _ = orthanc_asked(films, GET)
    folder = asking.node.folder
    for n, point in enumerate(["receive.after_row", "pull.taken", "pull.fetched"]):
        (folder / "failpoint").write_text(point)
        environment = os.environ | {"OVERREAD_FAILPOINT": str(folder / "failpoint")}
        how = ["--resume", "1"] if n else ["--from", "asked", "--since", "2020-01-01"]
        done = subprocess.run(asking.command("pull", *how), env=environment, timeout=120, check=False)
        assert done.returncode == 137
    process = subprocess.Popen(asking.command("pull", "--resume", "1", "--json"), stdout=subprocess.PIPE)
    store = asking.node.parts.store
    asking.node.wait_for(lambda: len(studies.latest(store, 100)) >= 10)
    process.kill()
    process.communicate()
    code, said, errors = asking("pull", "--resume", "1")
    assert (code, said["studies"]["DONE"]) == (0, 30), errors
    asking.node.start()
    uids = uids_of(films)
    asking.route(uids)
    assert {asking.counts(uid)[:2] for uid in uids} == {(1, 2)}
    assert asking.node.problems() == []


@pytest.mark.orthanc
def test_ctrl_c_says_how_to_go_on(orthanc_asked: Callable[..., tuple[Asking, Orthanc]], films: list[Path]) -> None:
    asking, _ = orthanc_asked(films, GET)
    process = subprocess.Popen(
        asking.command("pull", "--from", "asked", "--since", "2020-01-01", "--per-minute", "600"),
        stderr=subprocess.PIPE,
        text=True,
    )
    asking.node.wait_for(lambda: len(studies.latest(asking.node.parts.store, 100)) >= 5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "pull #1 was interrupted; go on with: overread pull --resume 1" in errors
    code, said, _ = asking("pull", "--resume", "1", "--json")
    assert (code, said["studies"]["DONE"]) == (0, 30)


@pytest.mark.orthanc
def test_an_orthanc_that_gives_nothing_by_c_get_moves_it(
    orthanc_asked: Callable[..., tuple[Asking, Orthanc]], films: list[Path]
) -> None:
    asking, _ = orthanc_asked(films[:2], 'may = ["query", "send"]', get=False)
    asking.node.start()
    code, said, errors = asking("pull", "--from", "asked", "--since", "2020-01-01")
    assert (code, said["studies"]["DONE"]) == (0, 2), errors


@pytest.fixture
def dcmqrscp(program: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., tuple[str, int]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(films: list[Path], node_port: int) -> tuple[str, int]:
        folder, port = tmp_path / "dcmqr", free_port()
        folder.mkdir()
        config = tmp_path / "dcmqrscp.cfg"
        config.write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nus = (OVERREAD, 127.0.0.1, {node_port})\nHostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nARCHIVE {folder} RW (1000, 1024mb) ANY\nAETable END\n"
        )
        with (tmp_path / "dcmqrscp.log").open("wb") as log:
            running.append(subprocess.Popen([program("dcmqrscp"), "-c", str(config)], stdout=log, stderr=log))
        until = time.monotonic() + 10
        while not listens(port):
            assert time.monotonic() < until
            time.sleep(0.05)
        one = Sender(calling_ae_title="FILLER", called_ae_title="ARCHIVE", host="127.0.0.1", port=port, timeout=10)
        assert {outcome.kind for _, outcome in one.send(films)} == {"stored"}
        one.close()
        return "ARCHIVE", port

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.dcmtk
@pytest.mark.parametrize("peer", [GET, MOVE], ids=["get", "move"])
def test_studies_of_dcmqrscp_come_by_both_ways(
    dcmqrscp: Callable[..., tuple[str, int]], films: list[Path], tmp_path: Path, peer: str
) -> None:
    port = free_port()
    study = generate_uid()
    several = [make_image(tmp_path / f"more{n}.dcm", StudyInstanceUID=study) for n in range(3)]
    asking = Asking(tmp_path / "node", dcmqrscp([*films[:6], *several], port), peer, port=port)
    try:
        asking.node.start()
        code, said, errors = asking("pull", "--from", "asked", "--since", "2020-01-01", "--modality", "CR")
        assert (code, said["studies"]["DONE"]) == (0, 7), errors
        asking.route([*uids_of(films[:6]), study])
        assert asking.counts(study)[0] == 3
        assert asking.node.problems() == []
    finally:
        asking.node.stop()
