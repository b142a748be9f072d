"""Every result object that any test makes is judged by dciodvfy, whatever the test is about.

Objects are caught where builders end (`header.finish`), and at the end of the run in the results folders of nodes that
ran as processes. They are judged beside the tests, by a thread of its own, and each only once: objects that differ only
in the values of UIDs, of pixels and of documents count as one. An error fails the run; the object is kept and named.
"""

from __future__ import annotations

import functools
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

BULK = ("PixelData", "EncapsulatedDocument")
# What identifies is passed on as it came, right or wrong, and so are names whose character set was never declared
# (node.results.repair, node.results.evidence): the judge may object to what came. Our own UIDs begin with 2.25.
CAME_SO = re.compile(
    r"</PatientID\(.*Value invalid for this VR|PatientName.*Character invalid for character repertoire|"
    r"Illegal root for UID.* = <(?!2\.25\.)|Value invalid for this VR \[UI\] = <(?!2\.25\.)"
)


def dciodvfy() -> str | None:
    # pip puts it beside the interpreter, which need not be on the path
    return shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")


class Judge:
    """One run's objects and what is wrong with them."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._verdicts: dict[bytes, Future[tuple[bytes, list[str]]]] = {}

    def take(self, data: bytes, ds: Any) -> None:
        from blake3 import blake3

        shape = data
        for keyword in BULK:
            shape = shape.replace(bytes(ds.get(keyword) or b""), b"") if ds.get(keyword) else shape
        shape = re.sub(rb"2\.25\.\d+|1\.2\.826\.0\.1\.3680043\.8\.498\.\d+", b"", shape)
        digest = blake3(shape).digest()
        if digest not in self._verdicts:
            self._verdicts[digest] = self._pool.submit(self._judge, data)

    def _judge(self, data: bytes) -> tuple[bytes, list[str]]:
        with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
            file.write(data)
            file.flush()
            command = [self._program, "-new", file.name]
            done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        wrong = [line for line in lines if line.startswith(("Error", "Abort")) and not CAME_SO.search(line)]
        return (data, wrong) if wrong else (b"", [])

    def ended(self) -> tuple[int, list[tuple[bytes, list[str]]]]:
        """How many were judged, and those in which something is wrong."""
        verdicts = [future.result() for future in self._verdicts.values()]
        self._pool.shutdown()
        return len(verdicts), [verdict for verdict in verdicts if verdict[1]]


KEY = pytest.StashKey[Judge]()
LINES = pytest.StashKey[list[str]]()
OTHERS = pytest.StashKey[list[tuple[int, int, list[str]]]]()
"""What the workers of a run that is spread over several processes (pytest-xdist) found."""


def pytest_collection_finish(session: pytest.Session) -> None:
    program = dciodvfy()
    if program is None:
        return
    judge = session.config.stash[KEY] = Judge(program)
    if "node.results.header" not in sys.modules:
        return
    from node.results import header

    finish = header.finish

    @functools.wraps(finish)
    def finish_and_judge(ds: Any) -> Any:
        finished = finish(ds)
        buffer = io.BytesIO()
        finished.save_as(buffer, enforce_file_format=True)
        judge.take(buffer.getvalue(), finished)
        return finished

    header.finish = finish_and_judge


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    found = [_found(config), *config.stash.get(OTHERS, [])]
    if hasattr(config, "workeroutput"):
        config.workeroutput["judged"] = found[0]
        return
    lines = config.stash[LINES] = []
    if dciodvfy() is None:
        lines.append("dciodvfy is missing: no result object was judged")
    total, bad = sum(n for n, _, _ in found), sum(n for _, n, _ in found)
    if total:
        lines.append(f"dciodvfy judged {total} different result objects: {bad} with errors")
    lines += [line for _, _, named in found for line in named]
    if bad:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _found(config: pytest.Config) -> tuple[int, int, list[str]]:
    """How many objects of this process were judged, how many are wrong, and in words which and why."""
    judge = config.stash.get(KEY, None)
    if judge is None:
        return 0, 0, []
    folder = Path(config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
    for path in _written(folder):
        from pydicom import dcmread

        judge.take(path.read_bytes(), dcmread(path))
    judged, wrong = judge.ended()
    named = []
    for number, (data, errors) in enumerate(wrong):
        kept = folder / "violations" / f"{number}.dcm"
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(data)
        named += [f"{kept}:", *(f"  {error}" for error in errors)]
    return judged, len(wrong), named


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    if found := getattr(node, "workeroutput", {}).get("judged"):
        node.config.stash.setdefault(OTHERS, []).append(tuple(found))


def _written(folder: Path) -> Iterator[Path]:
    """What nodes have written to their spools, those that ran as processes among them."""
    for results in folder.rglob("results"):
        if results.is_dir() and (results.parent / "obj").is_dir():
            yield from sorted(results.rglob("2.25.*.dcm"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash.get(LINES, []):
        terminalreporter.write_line(line)
