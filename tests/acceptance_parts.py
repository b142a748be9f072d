"""A running node, a real Orthanc, real films, and DCMTK to send them. One node for each test module."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from pydicom import dcmread
from pydicom.uid import generate_uid
from running import RunningNode

from node.network.orthanc import Orthanc, free_port

# Nothing but the page: Chromium's own connections would fail on a closed network. WebGL is drawn by the processor.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--ignore-gpu-blocklist"
).split()


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def give(orthanc: Orthanc, *paths: Path) -> str:
    """Put films into Orthanc and have it send the study to the node."""
    for path in paths:
        orthanc.upload(path)
    uid = uid_of(paths[0])
    orthanc.send_study(uid)
    return uid


@pytest.fixture(scope="module")
def orthanc(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program("Orthanc")
    made = Orthanc(tmp_path_factory.mktemp("orthanc"), node_ae_title="OVERREAD", node_port=free_port())
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def running(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    node = RunningNode(tmp_path_factory.mktemp("node"), (orthanc.ae_title, orthanc.port), port=orthanc.node_port)
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def stubbed(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """The same with a stub in place of the models."""
    folder = tmp_path_factory.mktemp("node")
    node = RunningNode(folder, (orthanc.ae_title, orthanc.port), port=orthanc.node_port, stub=True)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def film(pydicom_file: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a real film under UIDs of its own; attributes override, None deletes."""
    made: list[Path] = []

    def make(name: str = "RG1_UNCR.dcm", **attributes: object) -> Path:
        ds = dcmread(pydicom_file(name))
        ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
        ds.SOPInstanceUID = generate_uid()
        for keyword, value in attributes.items():
            if value is None:
                if keyword in ds:
                    del ds[keyword]
            else:
                setattr(ds, keyword, value)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        made.append(tmp_path / f"film{len(made)}.dcm")
        ds.save_as(made[-1], enforce_file_format=True)
        return made[-1]

    return make


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program("chromium"), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def storescu(program: Callable[[str], str]) -> Callable[..., bool]:
    """DCMTK sends files to the node; whether all of them were acknowledged."""
    command = program("dcmsend")

    def send(node: RunningNode, *paths: Path) -> bool:
        done = subprocess.run(
            [command, "-v", "-aet", "MODALITY", "-aec", "OVERREAD", "127.0.0.1", str(node.port), *map(str, paths)],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        # its exit code is 0 after a refusal too
        taken = re.search(r"with status SUCCESS\s*: (\d+)", done.stdout + done.stderr)
        return done.returncode == 0 and taken is not None and int(taken[1]) == len(paths)

    return send
