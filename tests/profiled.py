"""DCMTK's storescp as a PACS of a certain kind: it takes some SOP classes in some transfer syntaxes, and no others."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.network.orthanc import free_port

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
NAMES = {EXPLICIT: "Explicit", IMPLICIT: "Implicit"}
VERIFICATION = "1.2.840.10008.1.1"


def profile(*taken: tuple[str, str]) -> str:
    """A configuration file of DCMTK whose profile "Pacs" takes these SOP classes and transfer syntaxes."""
    syntaxes = "".join(f"[{name}]\nTransferSyntax1 = {uid}\n" for uid, name in NAMES.items())
    contexts = [(VERIFICATION, IMPLICIT), *taken]
    lines = "".join(f"PresentationContext{n} = {c}\\{NAMES[s]}\n" for n, (c, s) in enumerate(contexts, start=1))
    return (
        f"[[TransferSyntaxes]]\n{syntaxes}[[PresentationContexts]]\n[Taken]\n{lines}"
        "[[Profiles]]\n[Pacs]\nPresentationContexts = Taken\n"
    )


class StoreSCP:
    """One storescp; what it takes may change while nobody is associated, as when a PACS is upgraded."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "kept").mkdir(parents=True)

    def start(self, *taken: tuple[str, str]) -> None:
        self.stop()
        file = self.folder / "storescp.cfg"
        file.write_text(profile(*taken))
        command = [self._program, "--fork", "-od", str(self.folder / "kept"), "+B", "-xf", str(file), "Pacs"]
        # storescp writes as soon as it listens, to a file so that nobody has to read it
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([*command, "-v", str(self.port)], stdout=log, stderr=log)
        until = time.monotonic() + 10
        while not self._listens():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "storescp did not start"
            time.sleep(0.01)

    def _listens(self) -> bool:
        # Not by connecting: that would be an association that fails
        here = f"0100007F:{self.port:04X}", f"00000000:{self.port:04X}"
        rows = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text().replace("0" * 24, "")
        return any(f"{place} " in line and " 0A " in line for line in rows.splitlines() for place in here)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kept(self) -> list[Path]:
        return sorted((self.folder / "kept").iterdir())
