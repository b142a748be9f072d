"""A doorbell between roles: Unix datagram sockets in the data folder, or LISTEN and NOTIFY of a shared database.

Ringing wakes another role within milliseconds. A lost ring is never a fault: whoever waits looks at the database on
time-out too.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Protocol


class Ear(Protocol):
    """One listener."""

    def wait(self, timeout: float) -> bool:
        """Sleep until rung, or for at most `timeout` seconds; all rings since the last wait count as one."""

    def close(self) -> None: ...


class Bell(Protocol):
    """Rings and listens; names are role names."""

    def ring(self, name: str) -> None:
        """Wake all that listen under this name, such as "infer" and "infer-gpu:1".

        Nobody there, or a full queue, means that nobody need be woken.
        """

    def listen(self, name: str) -> Ear: ...

    def close(self) -> None: ...


class LocalBell:
    """Rings and listens below one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._fd = os.open(folder, os.O_RDONLY)
        # sockaddr_un holds 107 bytes; through the open folder a long data_dir still fits
        through = f"/proc/self/fd/{self._fd}"
        self._place = through if Path(through).exists() else str(folder)
        self._out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._out.setblocking(False)

    def _address(self, name: str) -> str:
        return f"{self._place}/{name}.bell"

    def ring(self, name: str) -> None:
        with os.scandir(self._folder) as entries:
            ears = [e.name for e in entries if e.name.startswith(name) and e.name.endswith(".bell")]
        for ear in ears:
            with contextlib.suppress(OSError):
                self._out.sendto(b"!", f"{self._place}/{ear}")

    def listen(self, name: str) -> LocalEar:
        return LocalEar(self._address(name), self._folder / f"{name}.bell")

    def close(self) -> None:
        self._out.close()
        os.close(self._fd)


class LocalEar:
    """A new one under the same name takes over from a dead one."""

    def __init__(self, address: str, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path.unlink(missing_ok=True)
        self._socket.bind(address)

    def wait(self, timeout: float) -> bool:
        try:
            self._socket.settimeout(max(timeout, 0.001))
            self._socket.recv(16)
            self._socket.setblocking(False)
            while True:
                self._socket.recv(16)
        except TimeoutError:
            return False
        except BlockingIOError:
            return True

    def close(self) -> None:
        self._socket.close()
