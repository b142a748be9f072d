"""A node and an Orthanc that speak TLS only: there, back, and again with a renewed certificate."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance_parts import film
from certificates import Authority
from pydicom import dcmread
from running import ROUTE, RunningNode

from node.network import tls
from node.network.orthanc import Orthanc, free_port
from node.network.tls import Files

pytestmark = [pytest.mark.orthanc, pytest.mark.model, pytest.mark.slow]
__all__ = ["film"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pacs(authority: Authority) -> Files:
    return authority.files("pacs", host="pacs.example.org")


@pytest.fixture(scope="module")
def node_files(authority: Authority) -> Files:
    return authority.files("node")


@pytest.fixture(scope="module")
def orthanc(program: Callable[[str], str], pacs: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program("Orthanc")
    port = free_port()
    made = Orthanc(
        tmp_path_factory.mktemp("orthanc"),
        node_ae_title="OVERREAD",
        node_port=port,
        DicomModalities={"node": {"AET": "OVERREAD", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}},
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(pacs.certificate),
        DicomTlsPrivateKey=str(pacs.key),
        DicomTlsTrustedCertificates=str(pacs.authorities),
        DicomTlsRemoteCertificateRequired=True,
    )
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def running(
    orthanc: Orthanc, pacs: Files, node_files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningNode]:
    node = RunningNode(
        tmp_path_factory.mktemp("node"),
        (orthanc.ae_title, orthanc.port),
        route=f"""{ROUTE}
[tls]
port = {orthanc.node_port}
certificate = "{node_files.certificate}"
key = "{node_files.key}"
authorities = "{node_files.authorities}"
""",
    )
    text = node.file.read_text()
    pinned = text.replace(
        'name = "pacs"\n', f'name = "pacs"\nfingerprint = "{tls.fingerprint_of(pacs.certificate)}"\n', 1
    )
    node.file.write_text(pinned)
    node.start()
    yield node
    node.stop()


def goes_there_and_back(node: RunningNode, orthanc: Orthanc, path: Path) -> None:
    uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    orthanc.upload(path)
    orthanc.send_study(uid)
    node.finish(uid)
    assert len(orthanc.instances(uid)) == 3  # the film, its report, its picture


def test_a_study_goes_there_and_back_encrypted(
    running: RunningNode, orthanc: Orthanc, film: Callable[..., Path], authority: Authority, node_files: Files
) -> None:
    goes_there_and_back(running, orthanc, film())
    renewed = authority.files("renewed")
    for new, old in zip(renewed.all[:2], node_files.all[:2], strict=True):
        shutil.copy(new, old)
    goes_there_and_back(running, orthanc, film())
    assert f"tls.reloaded certificate={tls.fingerprint_of(renewed.certificate)}" in running.log


def test_in_plain_nobody_listens(running: RunningNode, program: Callable[[str], str]) -> None:
    for port in (running.port, running.settings.tls.port if running.settings.tls else 0):
        command = [program("echoscu"), "-aet", "MODALITY", "-aec", "OVERREAD", "127.0.0.1", str(port)]
        assert subprocess.run(command, capture_output=True, timeout=20, check=False).returncode != 0


def test_check_says_how_long_the_certificates_last(running: RunningNode) -> None:
    command = [sys.executable, "-m", "node.cli", "check", "--json", "--config", str(running.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = [line["text"] for line in map(json.loads, done.stdout.splitlines()) if line["check"] == "tls"]
    assert done.returncode == 0, done.stdout
    assert len(said) == 2 and all("is valid for" in text for text in said)


def test_a_peer_is_tested_encrypted_and_the_gate_refuses_the_synthetic_image(running: RunningNode) -> None:
    command = [sys.executable, "-m", "node.cli", "peer", "test", "pacs", "--yes", "--json", "--config"]
    done = subprocess.run(
        [*command, str(running.file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = {line["step"]: line for line in map(json.loads, done.stdout.splitlines()) if line["verdict"] != "waiting"}
    assert done.returncode == 0, done.stdout
    assert said["tls"]["text"].startswith("TLSv1.")
    assert {said[name]["verdict"] for name in ("study", "result", "store", "inbound")} == {"ok"}
    assert "chest: REFUSED" in said["result"]["text"]
