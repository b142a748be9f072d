"""`make soak MINUTES=30`: a node under load and kills; studies in = results out, and nothing grows.

Two modalities send studies of one to three images without a pause. In the first two thirds of the time a role is killed
every ten seconds, sometimes all of them; in the last third nothing is killed, and memory, threads and open files of
every process are read once a second. A stub stands in place of the models. Prints a report; exits 1 if anything was
lost or doubled. A kill within a study may make it settle early: the late image then has a report of its own, by right.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modality_made import Modality  # noqa: E402
from running import RunningNode  # noqa: E402

from node.domain import JobState  # noqa: E402
from node.network.standin import StandIn  # noqa: E402
from node.storage import jobs, roles, studies  # noqa: E402

SEED = 20260106
KILL_SECONDS = 10.0
UNFINISHED = ("RECEIVING", "SETTLED", "QUEUED", "LEASED")
Sample = tuple[float, float, float]


def sampled(pid: int) -> tuple[float, float, float]:
    """Megabytes, threads and open files of a process."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(status["VmRSS"].split()[0]) / 1024, float(status["Threads"]), float(files)


def watched(node: RunningNode, samples: dict[str, list[tuple[float, Sample]]], now: float) -> None:
    for role, said in roles.status(node.settings.node.data_dir).items():
        if said["running"]:
            samples[role].append((now, sampled(int(said["pid"]))))


def results(pacs: StandIn) -> Counter[tuple[str, str]]:
    """How many objects of a kind came back to each study; kept files count, so a second one of a UID does not."""
    found: Counter[tuple[str, str]] = Counter()
    for path in pacs.received():
        ds = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "Modality"])
        found[ds.StudyInstanceUID, ds.Modality] += 1
    return found


def reports_due(node: RunningNode) -> dict[str, int]:
    """How many of each study's revisions were read, once nothing is left to do."""
    store = node.parts.store

    def over() -> bool:
        counts = studies.counts(store)
        return not any(n for key, n in counts.items() if key.rpartition(".")[2] in UNFINISHED)

    node.wait_for(over, seconds=600)
    read = (JobState.DONE, JobState.REFUSED)
    every = studies.latest(store, 1_000_000)
    return {s.study_instance_uid: sum(j.state in read for j in jobs.of_study(store, s.id)) for s in every}


def soaked(minutes: float, pause: float, out: Console) -> bool:
    chance = random.Random(SEED)
    samples: dict[str, list[tuple[float, Sample]]] = defaultdict(list)
    kills: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="overread-soak-") as temporary:
        folder = Path(temporary)
        pacs = StandIn(folder / "pacs", ae_title="PACS")
        pacs.start()
        node = RunningNode(folder / "node", ("PACS", pacs.port), quiet=1, released=0.5, stub=True)
        node.start()
        (folder / "sent").mkdir()
        modalities = [Modality([("127.0.0.1", node.port)], folder / "sent", pause, SEED + n) for n in range(2)]
        for modality in modalities:
            modality.start()
        started = time.monotonic()
        end, calm = started + 60 * minutes, started + 40 * minutes
        next_kill = started + KILL_SECONDS
        with Progress(console=out) as progress:
            bar = progress.add_task("soaking", total=60 * minutes)
            while (now := time.monotonic()) < end:
                if next_kill <= now < calm:
                    next_kill += KILL_SECONDS
                    whom = chance.choice(["receive", "infer", "dispatch", ""])
                    kills[whom or "everything"] += 1
                    node.kill(whom)
                    if not whom:
                        node.start(wait=False)
                if now > calm:
                    watched(node, samples, now)
                progress.update(bar, completed=now - started)
                time.sleep(1)
        for modality in modalities:
            modality.stop()
            modality.join(60)
        sent = {uid: n for modality in modalities for uid, n in modality.studies.items()}
        found = reports_due(node)
        due = {uid: found.get(uid, 0) for uid in sent}
        back, problems = results(pacs), node.problems()
        node.stop()
        pacs.stop()
    wrong = [uid for uid, reports in due.items() if not reports == back[uid, "SR"] > 0 or not back[uid, "OT"]]
    repeats = sum(modality.repeats for modality in modalities)
    out.print(f"kills: {dict(kills)}; images sent again: {repeats}")
    out.print(f"studies in: {len(sent)}, images: {sum(sent.values())}; lost or doubled: {len(wrong)}")
    out.print(
        f"reports out: {sum(n for (_, kind), n in back.items() if kind == 'SR')}; violated: {problems or 'nothing'}"
    )
    out.print("Without kills, a minute:        megabytes      threads   open files   (from to)")
    for role, rows in samples.items():
        times = np.array([t for t, _ in rows]) / 60
        said = []
        for column in range(3):
            values = np.array([sample[column] for _, sample in rows])
            slope = np.polyfit(times, values, 1)[0] if len(rows) > 1 else 0.0
            said.append(f"{slope:+.2f} ({values[0]:.0f} {values[-1]:.0f})")
        out.print(f"  {role:<20}{said[0]:>22}{said[1]:>16}{said[2]:>16}")
    return not wrong and not problems


def main() -> None:
    parser = argparse.ArgumentParser(description="Soak a node.")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two studies of a modality")
    given = parser.parse_args()
    sys.exit(0 if soaked(given.minutes, given.pause, Console()) else 1)


if __name__ == "__main__":
    main()
