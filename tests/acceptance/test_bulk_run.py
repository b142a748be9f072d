"""A pull of many studies in shadow from a real Orthanc, killed twice, while a modality sends: nobody waits for it.

What the pull costs a clinical study is measured against the same node without a pull, and printed. Asserted is the
order in which jobs are claimed, as the database itself notes it.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import make_image
from pydicom.uid import generate_uid
from running import ROUTE, RunningNode

from node.domain import JobState, Priority
from node.network.orthanc import Orthanc, free_port
from node.network.standin import StandIn
from node.pipeline.ahead import MOST
from node.storage import bulk, deliveries, jobs, pulls, studies
from node.storage.pulls import PullStudyState

pytestmark = [pytest.mark.slow, pytest.mark.orthanc, pytest.mark.dcmtk]

STUDIES, CLINICAL = 160, 12
AHEAD = 40
SECONDS = "0.03"
"""That the stand-in of a model takes for an image."""
TRIAL = '\n[[route]]\nname = "trial"\nbundle = "chest-findings"\nmode = "shadow"\nresults = ["sr"]\n'
ASKED = (
    '\n[[peer]]\nname = "asked"\nae_title = "{0}"\nhost = "127.0.0.1"\nport = {1}\nproof = "none"\nmay = ["query"]\n'
)
WATCH = """
CREATE TRIGGER watch AFTER UPDATE OF state ON job WHEN NEW.state = 'LEASED' AND OLD.state != 'LEASED'
BEGIN INSERT INTO watched SELECT NEW.id, NEW.priority, (
    SELECT count(*) FROM job j JOIN study s ON s.id = j.study_id WHERE j.state = 'QUEUED' AND s.state != 'HELD'
    AND j.priority < NEW.priority AND j.due_at <= NEW.lease_until - {lease}); END
"""
"""At every claim: how many more urgent jobs were due by the clock of whoever claimed."""


class Run:
    """A node, the PACS that it asks, the PACS that gets results, and a modality."""

    def __init__(self, folder: Path, storescu: str, orthanc: Orthanc) -> None:
        self.folder, self.storescu = folder, storescu
        self.pacs = StandIn(folder / "pacs", ae_title="PACS", port=free_port())
        route = ROUTE + TRIAL + ASKED.format(orthanc.ae_title, orthanc.port)
        slow = {"OVERREAD_TEST_STUB_SECONDS": SECONDS}
        self.node = RunningNode(folder / "node", ("PACS", self.pacs.port), route=route, stub=True, **slow)
        self.sent: list[str] = []

    def start(self) -> None:
        self.pacs.start()
        self.node.start()
        lease = self.node.settings.infer.lease_seconds
        with self.node.parts.store.write() as connection:
            connection.exec_driver_sql("CREATE TABLE watched (job INTEGER, priority INTEGER, due INTEGER)")
            connection.exec_driver_sql(WATCH.format(lease=lease))

    def pull(self, *what: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "node.cli", "pull", *what, "--json", "--config", str(self.node.file)]
        with (self.folder / "pull.log").open("ab") as log, (self.folder / "pull.out").open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=log)

    def send(self) -> None:
        """One study, as a modality sends it."""
        uid = generate_uid()
        film = make_image(self.folder / f"{uid}.dcm", StudyInstanceUID=uid, PatientID="C1")
        to = ["-aec", "OVERREAD", "-aet", "MODALITY", "127.0.0.1", str(self.node.port)]
        subprocess.run([self.storescu, *to, str(film)], check=True, capture_output=True, timeout=60)
        self.sent.append(uid)

    def clinic(self, n: int, *, between: float = 1.5) -> list[float]:
        """Studies one after the other; of each the seconds from its image to its stored results."""
        began = len(self.sent)
        for _ in range(n):
            self.send()
            time.sleep(between)
        return [self.node.wait_for(lambda uid=uid: self.took(uid), seconds=60) for uid in self.sent[began:]]

    def took(self, uid: str) -> float:
        study = self.node.study(uid)
        (job, *_) = (jobs.of_study(self.node.parts.store, study.id) if study else []) or [None]
        return job.finished_at - study.last_received_at if study and job and job.finished_at else 0.0

    def brought(self) -> int:
        return pulls.counts(self.node.parts.store, 1)[PullStudyState.DONE] if self.begun() else 0

    def begun(self) -> bool:
        return bool(pulls.latest(self.node.parts.store, 1))

    def rows(self, query: str) -> list[Any]:
        with self.node.parts.store.read() as connection:
            return list(connection.exec_driver_sql(query).all())


@pytest.fixture
def cohort(program: Callable[[str], str], tmp_path: Path) -> Iterator[tuple[Orthanc, dict[str, int]]]:
    """Studies of one image each in an Orthanc, with the bytes of each image by Study Instance UID."""
    program("Orthanc")
    (tmp_path / "orthanc").mkdir()
    orthanc = Orthanc(tmp_path / "orthanc", node_ae_title="OVERREAD", node_port=free_port())
    sizes: dict[str, int] = {}
    try:
        orthanc.start()
        for n in range(STUDIES):
            uid = generate_uid()
            film = make_image(tmp_path / "film.dcm", StudyInstanceUID=uid, PatientID=f"R{n}")
            orthanc.upload(film)
            sizes[uid] = film.stat().st_size
        yield orthanc, sizes
    finally:
        orthanc.stop()


@pytest.fixture
def run(program: Callable[[str], str], tmp_path: Path, cohort: tuple[Orthanc, dict[str, int]]) -> Iterator[Run]:
    (tmp_path / "run").mkdir()
    made = Run(tmp_path / "run", program("storescu"), cohort[0])
    made.start()
    yield made
    made.node.stop()
    made.pacs.stop()


def test_a_pull_of_many_studies_that_is_killed_twice_costs_clinical_work_nothing_but_a_batch(
    run: Run, cohort: tuple[Orthanc, dict[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, sizes = cohort
    store = run.node.parts.store
    alone = run.clinic(CLINICAL)
    listed = tmp_path / "cohort.csv"
    listed.write_text("StudyInstanceUID\n" + "".join(f"{uid}\n" for uid in [*sizes, "1.2.3.4"]))
    assert AHEAD < MOST
    shadow = ("--route", "trial", "--mode", "shadow", "--ahead", str(AHEAD))
    began = time.monotonic()
    process = run.pull("--from", "asked", "--accessions", str(listed), *shadow)
    most, beside = 0, []
    for n, share in enumerate((0.25, 0.5)):
        until = int(STUDIES * share)
        beside += run.clinic(CLINICAL // 3)
        run.node.wait_for(lambda until=until: run.brought() >= until, seconds=90)
        most = max(most, bulk.ahead(store))
        process.kill()
        process.wait()
        before = run.brought()
        process = run.pull("--resume", "1")
        run.node.wait_for(lambda before=before: run.brought() > before, seconds=60)
        assert process.poll() is None or n, "there is something left to bring"
    beside += run.clinic(CLINICAL // 3)
    assert process.wait(120) == 1, "one of the names is not there"
    wall = time.monotonic() - began
    one = pulls.find(store, 1)
    run.node.wait_for(lambda: bulk.standing(store, one, now=time.time()).read == STUDIES, seconds=120)
    nothing_is_lost_and_none_is_read_twice(run, sizes)
    no_bulk_job_was_claimed_while_a_clinical_one_was_due(run)
    # it looks once a second how much waits, and more comes until then
    assert "rests: " in (run.folder / "pull.log").read_text() and most < STUDIES / 2
    said = json.loads((run.folder / "pull.out").read_text().splitlines()[-1])
    assert (said["state"], said["missing"], said["studies"]["DONE"]) == ("DONE", ["1.2.3.4"], STUDIES)
    what_it_cost_is_told(run, sizes)
    ratio = statistics.median(beside) / statistics.median(alone)
    with capsys.disabled():
        print(
            f"\nclinical studies, image to results: {spread(alone)} alone, {spread(beside)} beside a pull of {STUDIES} "
            f"studies ({STUDIES / wall * 3600:,.0f} an hour): {ratio:.2f} times as long"
        )


def nothing_is_lost_and_none_is_read_twice(run: Run, sizes: dict[str, int]) -> None:
    store = run.node.parts.store
    for uid in sizes:
        study = run.node.study(uid)
        assert study, f"{uid} is not here"
        (job,) = jobs.of_study(store, study.id)
        assert (job.state, job.route, job.priority) == (JobState.DONE, "trial", Priority.BULK)
        assert [r.kind for r in jobs.results(store, study.id)] == ["sr"]
        assert deliveries.of_study(store, study.id) == []
    for uid in run.sent:
        study = run.node.study(uid)
        assert study
        made = {job.route: job for job in jobs.of_study(store, study.id)}
        assert made["chest"].state is JobState.DONE
        assert len(deliveries.of_study(store, study.id)) == 2
    run.node.wait_for(lambda: not {"job.QUEUED", "job.LEASED"} & set(studies.counts(store)), seconds=60)
    assert run.node.asked() == STUDIES + sum(len(jobs.of_study(store, run.node.study(u).id)) for u in run.sent)
    # by a kill a study may be received twice, and is the same study
    (receipts,) = run.rows("SELECT sum(receipts) FROM instance JOIN pulled USING (study_id)")[0]
    assert STUDIES <= receipts <= STUDIES + 2
    assert run.node.problems() == []


def no_bulk_job_was_claimed_while_a_clinical_one_was_due(run: Run) -> None:
    claims = run.rows(f"SELECT job, due FROM watched WHERE priority = {Priority.BULK.value}")
    assert len(claims) >= STUDIES
    assert [claim for claim in claims if claim.due] == []


def what_it_cost_is_told(run: Run, sizes: dict[str, int]) -> None:
    cost = bulk.cost(run.node.parts.store, pulls.find(run.node.parts.store, 1))
    assert (cost.studies, cost.images, cost.jobs) == (STUDIES, STUDIES, STUDIES)
    # whoever receives a file writes its first header himself
    assert cost.kept_images == pytest.approx(sum(sizes.values()), rel=0.01)
    # what a kill cut off is not counted, and comes again
    assert 0.95 * cost.kept_images <= cost.received <= 1.05 * cost.kept_images
    assert cost.worker_seconds >= STUDIES * float(SECONDS)
    assert cost.transfer_seconds > 0 and cost.kept_results > 0
    command = [sys.executable, "-m", "node.cli", "pull", "show", "1", "--price-gpu-hour", "3600", "--config"]
    shown = subprocess.run([*command, str(run.node.file)], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"cost: {STUDIES} images, .* MB received in .* of a worker; on disk", shown)
    assert f"price: {cost.worker_seconds:,.2f}" in shown
    assert (run.folder / "pull.log").read_text().count("pull #1: ") >= 3, "a line for each process"


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
