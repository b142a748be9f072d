"""A throwaway Orthanc on this machine, for the demo and the tests: a real PACS that knows one node.

It answers REST and DICOM to this machine's listed peers only, lives in one folder, and is gone when stopped.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any, cast

from node.errors import PeerError

START_SECONDS = 20.0
STOP_SECONDS = 10.0
REQUEST_SECONDS = 30.0


def find() -> Path | None:
    """Where Orthanc is installed, if it is; Debian puts it outside a user's path."""
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One Orthanc that takes from, and sends to, the node at `node_port`."""

    ae_title = "ORTHANC"
    name = "Orthanc"

    def __init__(self, folder: Path, *, node_ae_title: str, node_port: int, **options: Any) -> None:
        self._folder = folder
        self.node_port = node_port
        self.port = free_port()
        self.http = free_port()
        self._options: dict[str, Any] = {
            "Name": "OVERREAD-TEST",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self.port,
            "DicomAet": self.ae_title,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": False,
            "DicomAlwaysAllowEcho": False,
            "DicomCheckModalityHost": True,
            "DefaultEncoding": "Utf8",
            "DicomModalities": {
                "node": [node_ae_title, "127.0.0.1", node_port],
                "modality": ["DEMO_MODALITY", "127.0.0.1", 104],
            },
            "Plugins": [],
        } | options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            PeerError: it is not installed, or does not answer in time.
        """
        command = self.command()
        with (self._folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                self.get("/system")
                return
            except (OSError, PeerError):
                time.sleep(0.05)
        self.stop()
        raise PeerError(f"Orthanc did not start; see {self._folder / 'orthanc.log'}")

    def command(self) -> list[str]:
        """Write its settings, and give the command that starts it.

        Raises:
            PeerError: it is not installed.
        """
        program = find()
        if program is None:
            raise PeerError("Orthanc is not installed")
        (self._folder / "storage").mkdir(parents=True, exist_ok=True)
        file = self._folder / "orthanc.json"
        file.write_text(json.dumps(self._options))
        return [str(program), str(file)]

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def request(self, path: str, data: bytes | None = None, *, method: str = "") -> bytes:
        """One REST call; GET without data, else POST.

        Raises:
            PeerError: Orthanc answered an error.
            OSError: it did not answer.
        """
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", data=data, method=method or ("POST" if data is not None else "GET")
        )
        # The first of its users, if it has any, may do everything
        for user, password in list(self._options.get("RegisteredUsers", {}).items())[:1]:
            asked.add_header("Authorization", f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}")
        try:
            with urllib.request.urlopen(asked, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
                return cast(bytes, answer.read())
        except urllib.error.HTTPError as error:
            said = error.read()[:500].decode("utf-8", "replace")
            raise PeerError(f"Orthanc answered {error.code} to {path}: {said}") from None

    def get(self, path: str) -> Any:
        return json.loads(self.request(path))

    def post(self, path: str, value: object) -> Any:
        return json.loads(self.request(path, json.dumps(value).encode()) or b"null")

    def upload(self, path: Path) -> str:
        """Put a DICOM file in by REST; Orthanc's own id of its study."""
        return str(json.loads(self.request("/instances", path.read_bytes()))["ParentStudy"])

    def study_id(self, study_instance_uid: str) -> str | None:
        """Orthanc's own id of a study."""
        found = self.post(
            "/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study_instance_uid}, "Expand": False}
        )
        return str(found[0]) if found else None

    def send_study(self, study_instance_uid: str) -> None:
        """Have Orthanc send a study to the node by C-STORE; returns when it has."""
        self.post("/modalities/node/store", {"Resources": [self.study_id(study_instance_uid)], "Synchronous": True})

    def instances(self, study_instance_uid: str) -> dict[str, bytes]:
        """The Part 10 bytes of everything that the study holds, by SOP Instance UID."""
        study = self.study_id(study_instance_uid)
        if study is None:
            return {}
        return {
            i["MainDicomTags"]["SOPInstanceUID"]: self.request(f"/instances/{i['ID']}/file")
            for i in self.get(f"/studies/{study}/instances")
        }
