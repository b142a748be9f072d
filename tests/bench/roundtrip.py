"""`python -m tests.bench.roundtrip`: where the time of one study goes, and what each role weighs.

Prints medians with minimum and maximum over warm runs on this machine; nothing is asserted. The clock starts when the
node answers the last C-STORE and stops when the PACS answers the last result.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from node.network.sender import Sender
from node.network.standin import StandIn
from node.storage import deliveries, events, roles

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.measured import megabytes, spread  # noqa: E402
from running import RunningNode  # noqa: E402

RUNS = 15
VERBS = ("settle", "route", "infer + report", "deliver", "all")
RECEIVER = "node.service, node.network.listener, node.pipeline.receive, node.results.uids"


def film(folder: Path, number: int) -> Path:
    """The chest radiograph RG1 (1955 x 1841, 16 bit, uncompressed) as a study of its own."""
    ds = dcmread(str(get_testdata_file("RG1_UNCR.dcm", download=False)))
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = (generate_uid() for _ in range(3))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path = folder / f"{number}.dcm"
    ds.save_as(path)
    return path


def times(node: RunningNode, uid: str) -> dict[str, float]:
    """Milliseconds of each verb for a finished study."""
    study = node.finish(uid)
    store = node.parts.store
    at = {e.verb: e.at for e in events.of_study(store, study.id)}
    sent = max(d.sent_at or 0 for d in deliveries.of_study(store, study.id))
    stops = [study.last_received_at, at["settle"], at["route"], at["report"], sent]
    steps = [1000 * (b - a) for a, b in pairwise(stops)]
    return dict(zip(VERBS, [*steps, 1000 * (sent - study.last_received_at)], strict=True))


def import_seconds(modules: str) -> float:
    code = f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
    runs = [float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT.parent)) for _ in range(5)]
    return statistics.median(runs)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pacs = StandIn(folder / "pacs", ae_title="PACS")
        pacs.start()
        node = RunningNode(folder / "node", ("PACS", pacs.port), quiet=0, released=0)
        node.start()
        sender = Sender(
            calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=30
        )
        measured = []
        for number in range(RUNS + 2):
            path = film(folder, number)
            for _, outcome in sender.send([path]):
                assert outcome.kind == "stored", outcome
            measured.append(times(node, str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)))
            path.unlink()
        pids = {role: int(said["pid"]) for role, said in roles.status(node.settings.node.data_dir).items()}
        assert node.process is not None
        weights = {role: megabytes(pid, "VmRSS") for role, pid in pids.items()}
        weights["supervisor"] = megabytes(node.process.pid, "VmRSS")
        sender.close()
        node.stop()
        pacs.stop()
    print(f"One CR of 1955 x 1841, {RUNS} warm runs, ms:     median      min      max")
    for verb in VERBS:
        print(f"  {verb:<44} {spread([m[verb] for m in measured[2:]])}")
    print("Resident memory, MB:")
    for role, weight in weights.items():
        print(f"  {role:<44} {weight:8.1f}")
    print(f"  {'all':<44} {sum(weights.values()):8.1f}")
    print("Import time, s (median of 5):")
    print(f"  {'receiver':<44} {import_seconds(RECEIVER):8.2f}")
    print(f"  {'node.service':<44} {import_seconds('node.service'):8.2f}")


if __name__ == "__main__":
    main()
