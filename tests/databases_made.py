"""A PostgreSQL server of the tests' own, and a fresh database in it for whoever asks.

`$OVERREAD_TEST_DATABASE=postgresql` has every test that takes `place` work on it; otherwise each gets a SQLite file.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import needed
import psycopg

from node.network.orthanc import free_port
from node.storage import schema
from node.storage.postgres import PostgreSQL
from node.storage.sqlite import SQLite
from node.storage.store import Store

WANTED = os.environ.get("OVERREAD_TEST_DATABASE", "sqlite")
# what survives a power failure is the server's own business; killed, it loses nothing with these either
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
RULES = {"shared_buffers": "64MB", "max_connections": "200", "listen_addresses": "127.0.0.1"}


def place(folder: Path, name: str = "overread.db") -> Path | str:
    """Where a test keeps its rows: a file in its folder, or the URL of a new database."""
    return server().new() if WANTED == "postgresql" else folder / name


def where(store: Store) -> Path | str:
    """Where another store finds the same rows."""
    if isinstance(store.database, SQLite):
        return store.database.path
    assert isinstance(store.database, PostgreSQL)
    return store.database.url.set(drivername="postgresql").render_as_string(hide_password=False)


def forget(store: Store) -> None:
    """The rows are lost, and their tables; the store is closed."""
    if not isinstance(store.database, SQLite):
        with store.write() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
    store.close()
    if isinstance(store.database, SQLite):
        for path in store.database.path.parent.glob(f"{store.database.path.name}*"):
            path.unlink()


def back_up(store: Store, folder: Path) -> Path | str:
    """A copy of the rows as they are, for `put_back`; the store is closed."""
    if isinstance(store.database, SQLite):
        shutil.copy(store.database.path, folder / "backup.db")
        return folder / "backup.db"
    return server().copy(str(where(store)))


def put_back(store: Store, copy: Path | str) -> None:
    """The rows are those of an older copy; the store is closed."""
    if isinstance(copy, Path):
        for suffix in ("-wal", "-shm"):
            store.path.with_name(store.path.name + suffix).unlink(missing_ok=True)
        shutil.copy(copy, store.path)
    else:
        server().put_back(str(where(store)), copy)


def everything_in(store: Store) -> bytes:
    """What the database holds: of a file each byte, also of pages that are free again."""
    if isinstance(store.database, SQLite):
        files = store.database.path.parent.glob(f"{store.database.path.name}*")
        return b"".join(path.read_bytes() for path in files)
    return repr(as_they_are(store)).encode()


def in_settings(place: Path | str, spool: Path) -> dict[str, Any]:
    """The sections of the settings that say where the rows are, and the files."""
    return {} if isinstance(place, Path) else {"database": {"url": place}, "spool": {"dir": spool}}


def as_they_are(store: Store) -> dict[str, list[Any]]:
    """All rows of all tables, to see whether anything changed."""
    with store.read() as connection:
        tables = schema.metadata.sorted_tables
        return {t.name: [tuple(row) for row in connection.execute(t.select().order_by(*t.primary_key))] for t in tables}


class Server:
    """One PostgreSQL below a folder, on a free port of the loopback, with user and password."""

    def __init__(self, folder: Path, port: int, *, rules: dict[str, str] = QUICK) -> None:
        self.folder = folder
        self.port = port
        self._bin = _programs()
        user = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else ""
        self._data = folder / "data"
        folder.chmod(0o755)
        if user:
            shutil.chown(folder, user)
        how = ("-U", "overread", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self._as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), *how)
        said = {**RULES, **rules, "port": str(port), "unix_socket_directories": str(folder)}
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in said.items())

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            # our own child: nobody else would bury it, and a new one would take it for alive
            self._process = subprocess.Popen(
                [*self._as_user, str(self._bin / "postgres"), "-D", str(self._data)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        until = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, cwd="/").returncode == 0

    def stop(self) -> None:
        """In order, after those who are connected were cut off."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """As a power failure would: kill -9 of the postmaster and of all that it started."""
        if self._process is None:
            return
        pid = self._process.pid
        os.kill(pid, signal.SIGSTOP)  # or it might start one more meanwhile
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def end(self) -> None:
        """For good, with all that it holds."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def copy(self, url: str) -> str:
        """The URL of a new database with the same rows as one that nobody has open."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {_name_in(url)}".encode())
        return self.url(name)

    def put_back(self, url: str, copy: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {_name_in(url)}".encode())
            connection.execute(f"CREATE DATABASE {_name_in(url)} TEMPLATE {_name_in(copy)}".encode())

    def url(self, name: str) -> str:
        return f"postgresql://overread@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("wb") as out:
            command = [*self._as_user, str(self._bin / program), *arguments]
            subprocess.run(command, check=True, stdout=out, stderr=out, cwd="/")


@cache
def server() -> Server:
    """The one of this process; it ends with it."""
    made = fresh()
    made.start()
    atexit.register(made.end)
    return made


def fresh(rules: dict[str, str] = QUICK) -> Server:
    """One for whoever starts and ends it; its user cannot look into the tests' folders."""
    return Server(Path(tempfile.mkdtemp(prefix="overread-pg-")), free_port(), rules=rules)


def _name_in(url: str) -> str:
    return url.rpartition("/")[2]


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    if not found and not on_path:
        needed.missing("PostgreSQL (initdb, pg_ctl)")
    return found[0].parent if found else Path(str(on_path)).parent
