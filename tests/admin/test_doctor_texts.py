"""Every line that `overread check` can say, word for word; a line that is not in this table fails the last test."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from profiled import EXPLICIT, StoreSCP
from pydicom.uid import SecondaryCaptureImageStorage
from rows import ORIGIN, received
from web_made import Web

from config.settings import Settings
from models.predictor import DeviceError
from node.admin import doctor, doctor_models, doctor_network, doctor_storage
from node.admin.said import Said
from node.errors import ImportNameError
from node.network.orthanc import free_port
from node.network.standin import StandIn
from node.storage import instances, studies
from node.storage.store import Store

MODULES = (doctor, doctor_models, doctor_network, doctor_storage)
HERE = "127.0.0.1"
Lines = Iterable[Said]


class Bench:
    """What a case may use: a folder, monkeypatching, programs, and the settings that it makes."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, program: Callable[[str], str]) -> None:
        self.folder, self.patch, self.program = folder, patch, program
        self.root = folder / "data"
        self.closing: list[Callable[[], object]] = []
        # What this machine's own clock and disk are like is not what is tested
        patch.setattr(doctor_storage, "kernel_clock", lambda: 0)
        patch.setattr(doctor_storage, "_fsync_seconds", lambda _: 0.001)
        patch.setattr(doctor_storage, "file_system", lambda _: "ext4")
        patch.setattr(doctor_models, "find_device", lambda wanted: "/CPU:0")

    def settings(self, **values: Any) -> Settings:
        common = {"node": {"data_dir": self.root}, "deliver": {"timeout_seconds": 2}}
        return Settings(**(common | {"listener": {"port": free_port(), "reserve_mb": 0}} | values))

    def store(self) -> Store:
        made = Store(self.root / "overread.db", self.root / "spool")
        made.open()
        made.spool.open()
        self.closing.append(made.close)
        return made


def storage(bench: Bench) -> Lines:
    return doctor_storage.storage(bench.settings())


def a_spool_that_cannot_be(bench: Bench) -> Lines:
    bench.root.mkdir()
    (bench.root / "spool").write_text("")
    return storage(bench)


def a_slow_and_full_disk(bench: Bench) -> Lines:
    bench.patch.setattr(doctor_storage, "_fsync_seconds", lambda _: 0.08)
    bench.patch.setattr(shutil, "disk_usage", lambda _: type("U", (), {"free": 5 * 1024**2}))
    settings = bench.settings(listener={"reserve_mb": 1024})
    return list(doctor_storage.storage(settings))[:2]


def a_damaged_database(bench: Bench) -> Lines:
    bench.root.mkdir()
    (bench.root / "overread.db").write_bytes(b"no database" * 1000)
    return [said for said in storage(bench) if said.name == "database"]


def somebody_elses_spool(bench: Bench) -> Lines:
    bench.store()
    bench.patch.setattr(os, "geteuid", lambda: 4711)
    return [said for said in storage(bench) if said.verdict == "fail"]


def an_open_spool(bench: Bench) -> Lines:
    bench.store()
    (bench.root / "spool" / "obj").chmod(0o755)
    return [said for said in storage(bench) if said.verdict == "warn"]


def on(kind: str) -> Callable[[Bench], Lines]:
    def case(bench: Bench) -> Lines:
        bench.patch.setattr(doctor_storage, "file_system", lambda _: kind)
        return list(storage(bench))[-1:]

    return case


def a_host_of_several_on_a_network_disk(bench: Bench) -> Lines:
    bench.patch.setattr(doctor_storage, "file_system", lambda _: "nfs4")
    away = f"postgresql://overread@127.0.0.1:{free_port()}/overread?connect_timeout=2"
    shared = bench.folder / "shared"
    shared.mkdir(mode=0o700)
    settings = bench.settings(database={"url": away}, spool={"dir": shared})
    return [said for said in doctor_storage.storage(settings) if "nfs4" in said.text]


def clock(bench: Bench) -> Lines:
    bench.store()
    return doctor_storage.clock(bench.settings())


def an_unsynchronised_clock(bench: Bench) -> Lines:
    bench.patch.setattr(doctor_storage, "kernel_clock", lambda: 5)
    return clock(bench)


def a_disk_with_another_clock(bench: Bench) -> Lines:
    bench.store()
    touch = Path.touch

    def ahead(path: Path, *arguments: Any, **more: Any) -> None:
        touch(path, *arguments, **more)
        os.utime(path, (2_000_000_300.0,) * 2)

    bench.patch.setattr(doctor_storage.time, "time", lambda: 2_000_000_000.0)
    bench.patch.setattr(Path, "touch", ahead)
    return doctor_storage.clock(bench.settings())


def a_clock_that_was_set_back(bench: Bench) -> Lines:
    store = bench.store()
    studies.begin_association(store, ORIGIN)
    instances.remember(store, received(store, "1.2.3"), ORIGIN, own_device_uid="", now=ORIGIN.started_at)
    bench.patch.setattr(doctor_storage.time, "time", lambda: ORIGIN.started_at - 600)
    bench.patch.setattr(doctor_storage, "_ahead_on_disk", lambda *_: [])
    return doctor_storage.clock(bench.settings())


def ports(bench: Bench) -> Lines:
    return doctor_network.ports(bench.settings())


def a_port_of_ours(bench: Bench) -> Lines:
    settings = bench.settings()
    said = {"receive": {"running": True, "state": "ready", "port": settings.listener.port}}
    bench.patch.setattr(doctor_network.roles, "status", lambda _: said)
    return doctor_network.ports(settings)


def a_port_of_somebody_elses(bench: Bench) -> Lines:
    server = socket.create_server((HERE, 0))
    bench.closing.append(server.close)
    return doctor_network.ports(bench.settings(listener={"port": server.getsockname()[1]}))


def in_plain(bench: Bench) -> Lines:
    return doctor_network.certificates(bench.settings(listener={"bind": "0.0.0.0"}))


def certificates(days: float, *, mode: int = 0o600) -> Callable[[Bench], Lines]:
    def case(bench: Bench) -> Lines:
        files = Authority(bench.folder).files("node", days=days)
        files.key.chmod(mode)
        said = dict(zip(("certificate", "key", "authorities"), files.all, strict=True))
        return doctor_network.certificates(bench.settings(tls=said))

    return case


def no_certificate(bench: Bench) -> Lines:
    return doctor_network.certificates(bench.settings(tls={"certificate": bench.folder / "none.crt"}))


def routes(*given: dict[str, Any]) -> Callable[[Bench], Lines]:
    def case(bench: Bench) -> Lines:
        bench.patch.setattr(doctor_models, "_bundle", lambda *_: Said("bundle", "ok", "as always"))
        peer = {"name": "pacs", "ae_title": "PACS", "host": HERE, "port": 104}
        return [s for s in doctor_models.models(bench.settings(peer=[peer], route=list(given))) if s.name == "routes"]

    return case


LIVE = {"name": "chest", "bundle": "chest-findings", "deliver_to": ["pacs"]}
SHADOW = {"name": "quiet", "bundle": "chest-findings", "mode": "shadow"}


class Sound:
    device = "/CPU:0"

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def verify(self) -> None: ...


class Missing:
    def __init__(self, *_: Any, **__: Any) -> None:
        raise DeviceError("device = 'gpu:7': not there (have: auto, cpu, cpu:0)")


def a_bundle(reader: Any) -> Callable[[Bench], Lines]:
    def case(bench: Bench) -> Lines:
        bench.patch.setattr(doctor_models, "Reader", reader)
        settings = bench.settings(route=[SHADOW])
        return [said for said in doctor_models.models(settings) if said.name == "bundle"]

    return case


def a_device(found: str | Exception, *, wanted: str, there: bool = False) -> Callable[[Bench], Lines]:
    def case(bench: Bench) -> Lines:
        def find(_: str) -> str:
            if isinstance(found, Exception):
                raise found
            return found

        bench.patch.setattr(doctor_models, "find_device", find)
        bench.patch.setattr(doctor_models, "NVIDIA", bench.folder if there else bench.folder / "none")
        return doctor_models.devices(bench.settings(infer={"device": wanted}))

    return case


def the_modules(bench: Bench) -> Lines:
    return [doctor.modules()]


def strange_modules(bench: Bench) -> Lines:
    def collide() -> None:
        raise ImportNameError("the distribution other also brings a module named 'node'")

    bench.patch.setattr(doctor, "import_names", collide)
    return [doctor.modules()]


def the_settings(bench: Bench) -> Lines:
    return [next(iter(doctor.examine(bench.settings(), Path("overread.toml"))))]


def no_peer(bench: Bench) -> Lines:
    return doctor_network.peers(bench.settings())


def peers(*given: dict[str, Any], node: str = "OVERREAD") -> Callable[[Bench], Lines]:
    def case(bench: Bench) -> Lines:
        settings = bench.settings(peer=list(given), node={"data_dir": bench.root, "ae_title": node})
        return doctor_network.peers(settings)

    return case


def sender(name: str, network: str = "10.1.2.0/24", title: str = "XRAY") -> dict[str, Any]:
    return {"name": name, "ae_title": title, "networks": [network], "may": ["send"]}


def behind_a_balancer(bench: Bench) -> Lines:
    settings = bench.settings(peer=[sender("room1")], listener={"port": free_port(), "proxy_from": ["10.1.2.9"]})
    return doctor_network.peers(settings)


def a_pacs(bench: Bench) -> Lines:
    scp = StandIn(bench.folder / "pacs", ae_title="PACS")
    scp.start()
    bench.closing.append(scp.stop)
    return peers({"name": "pacs", "ae_title": "PACS", "host": HERE, "port": scp.port})(bench)


def dcmtk_as_packaged(bench: Bench) -> Lines:
    scp = StoreSCP(bench.program("storescp"), bench.folder / "scp")
    scp.start((str(SecondaryCaptureImageStorage), EXPLICIT))
    bench.closing.append(scp.stop)
    return peers({"name": "pacs", "ae_title": "PACS", "host": HERE, "port": scp.port})(bench)


def nobody_there(bench: Bench) -> Lines:
    return peers({"name": "pacs", "ae_title": "PACS", "host": HERE, "port": 9})(bench)


def a_secret_in_plain(bench: Bench) -> Lines:
    web, secret = Web(), bench.folder / "secret"
    bench.closing.append(web.stop)
    secret.write_text("canary\n")
    secret.chmod(0o600)
    return peers({"name": "web", "url": web.url, "token_file": secret})(bench)


def a_host_by_name(bench: Bench) -> Lines:
    said = {"name": "pacs", "ae_title": "PACS", "host": "pacs.invalid", "port": 104, "may": ["receive"]}
    return list(peers(said)(bench))[1:]


TABLE: dict[str, tuple[Callable[[Bench], Lines], list[tuple[str, str, str]]]] = {
    "settings": (the_settings, [("settings", "ok", "overread.toml is valid")]),
    "modules": (the_modules, [("modules", "ok", "node, models, training and config are ours")]),
    "strange modules": (
        strange_modules,
        [("modules", "fail", "the distribution other also brings a module named 'node'")],
    ),
    "storage": (
        storage,
        [
            ("data_dir", "ok", "{root}: one fsync takes 1.0 ms"),
            ("disk", "ok", "N MB free, listener.reserve_mb = 0"),
            ("database", "ok", "{root}/overread.db is whole"),
            ("spool", "ok", "{root}/spool is this user's alone"),
            ("spool", "ok", "{root} is on ext4"),
        ],
    ),
    "no spool": (
        a_spool_that_cannot_be,
        [
            (
                "data_dir",
                "fail",
                "{root}/spool: the spool cannot be used: [Errno 17] File exists: '{root}/spool'",
            )
        ],
    ),
    "slow and full": (
        a_slow_and_full_disk,
        [
            (
                "data_dir",
                "warn",
                "{root}: one fsync takes 80.0 ms: each instance waits that long; use a disk with a write cache that "
                "survives power loss",
            ),
            ("disk", "fail", "N MB free, listener.reserve_mb = 1024"),
        ],
    ),
    "damaged": (
        a_damaged_database,
        [("database", "fail", "{root}/overread.db: the database cannot be used: file is not a database")],
    ),
    "somebody else's": (
        somebody_elses_spool,
        [
            (
                "spool",
                "fail",
                "{root}/spool belongs to user {uid}, and this is user 4711: run as that user, or chown -R 4711 {root}",
            )
        ],
    ),
    "open": (an_open_spool, [("spool", "warn", "{root}/spool/obj can be read by others: chmod -R go-rwx {root}")]),
    "nfs of one of several hosts": (
        a_host_of_several_on_a_network_disk,
        [
            (
                "spool",
                "warn",
                "{root} is on nfs4, and belongs to one host: choose node.data_dir on a disk of this machine; what "
                "hosts share is spool.dir",
            )
        ],
    ),
    "nfs": (
        on("nfs4"),
        [
            (
                "spool",
                "fail",
                "{root} is on nfs4, whose locks and fsync a database cannot rely on: choose node.data_dir on a disk of "
                "this machine",
            )
        ],
    ),
    "tmpfs": (
        on("tmpfs"),
        [
            (
                "spool",
                "warn",
                "{root} is on tmpfs, which is empty after a restart of this machine: choose node.data_dir on a disk",
            )
        ],
    ),
    "unknown disk": (on(""), [("spool", "ok", "{root} is on a file system of unknown kind")]),
    "clock": (clock, [("clock", "ok", "it is TIME")]),
    "no NTP": (
        an_unsynchronised_clock,
        [
            (
                "clock",
                "warn",
                "nothing keeps this machine's clock right, and results bear its time: set up NTP (chrony, timesyncd)",
            )
        ],
    ),
    "disk's clock": (
        a_disk_with_another_clock,
        [("clock", "warn", "the clock of the disk with {root} is +300 s from this machine's: set both by NTP")],
    ),
    "set back": (
        a_clock_that_was_set_back,
        [
            (
                "clock",
                "warn",
                "the newest study came 10 minutes from now: the clock was set back; see that it is right",
            )
        ],
    ),
    "ports": (ports, [("listener", "ok", "127.0.0.1:PORT is free; AE title OVERREAD")]),
    "our port": (a_port_of_ours, [("listener", "ok", "127.0.0.1:PORT is ours, the receive role is ready")]),
    "taken port": (
        a_port_of_somebody_elses,
        [
            (
                "listener",
                "fail",
                "127.0.0.1:PORT cannot be opened: Address already in use; change listener.port or listener.bind",
            )
        ],
    ),
    "plain": (in_plain, [("tls", "warn", "there is no [tls]: images and names cross the network in plain")]),
    "certificates": (
        certificates(365, mode=0o640),
        [
            ("tls", "ok", "certificate {folder}/node.crt is valid for 365 more days, fingerprint PRINT"),
            ("tls", "ok", "authorities {folder}/authority.crt is valid for 3650 more days"),
            ("tls", "warn", "{folder}/node.key can be read by others: chmod 600 {folder}/node.key"),
        ],
    ),
    "ends soon": (
        certificates(9),
        [
            (
                "tls",
                "warn",
                "certificate {folder}/node.crt is valid for 9 more days: put a new one in its place, it is taken up "
                "without a restart",
            ),
            ("tls", "ok", "authorities {folder}/authority.crt is valid for 3650 more days"),
        ],
    ),
    "ended": (
        certificates(-3),
        [
            ("tls", "fail", "certificate {folder}/node.crt expired 3 days ago: put a new one in its place"),
            ("tls", "ok", "authorities {folder}/authority.crt is valid for 3650 more days"),
        ],
    ),
    "no certificate": (no_certificate, [("tls", "fail", "[tls] {folder}/none.crt: No such file or directory")]),
    "no route": (routes(), [("routes", "warn", "there is no [[route]]: every study stays UNROUTED")]),
    "routes": (
        routes(LIVE, SHADOW),
        [
            ("routes", "ok", "chest delivers to pacs"),
            ("routes", "ok", "quiet is in shadow mode: its results stay here"),
        ],
    ),
    "only shadow": (
        routes(SHADOW),
        [
            ("routes", "warn", "no [[route]] is live: results are made and kept here, and sent to nobody"),
            ("routes", "ok", "quiet is in shadow mode: its results stay here"),
        ],
    ),
    "a wrong route": (
        routes(SHADOW | {"when": {"Modalty": ["CR"]}}),
        [("routes", "fail", "route[0].when.Modalty: no such DICOM attribute keyword (PS3.6)")],
    ),
    "bundle": (
        a_bundle(Sound),
        [
            (
                "bundle",
                "ok",
                "chest-findings@1.0.0 replays its golden images on /CPU:0; audit: warn, see `overread bundle show "
                "chest-findings`",
            )
        ],
    ),
    "no device for a bundle": (
        a_bundle(Missing),
        [("bundle", "fail", "device = 'gpu:7': not there (have: auto, cpu, cpu:0)")],
    ),
    "device": (a_device("/GPU:0", wanted="auto"), [("device", "ok", '"auto" is /GPU:0')]),
    "no device": (
        a_device(DeviceError("device = 'gpu:0': not there (have: auto, cpu, cpu:0)"), wanted="gpu:0"),
        [
            (
                "device",
                "fail",
                "infer.device = 'gpu:0': not there (have: auto, cpu, cpu:0); correct infer.device, or install this "
                "machine's GPU driver",
            )
        ],
    ),
    "unused GPU": (
        a_device("/CPU:0", wanted="auto", there=True),
        [
            (
                "device",
                "warn",
                "there is an NVIDIA GPU, and TensorFlow does not find it: pip install 'tensorflow[and-cuda]'",
            )
        ],
    ),
    "no peer": (
        no_peer,
        [("peers", "warn", "there is no [[peer]]: only this machine may associate, and nothing can be sent")],
    ),
    "a PACS": (a_pacs, [("peer", "ok", "pacs answered in N ms")]),
    "DCMTK as packaged": (
        dcmtk_as_packaged,
        [
            (
                "peer",
                "warn",
                "pacs answered in N ms; in N ms where its answer is not acknowledged at once (Nagle's algorithm): each "
                "object that it sends or takes costs others as much: set TCP_NODELAY=1 in its environment there, as "
                "for every program made with DCMTK",
            )
        ],
    ),
    "nobody there": (
        nobody_there,
        [
            (
                "peer",
                "fail",
                "pacs: nothing listens at 127.0.0.1:9: start the peer's DICOM service there, or correct host and port "
                "here",
            )
        ],
    ),
    "a secret in plain": (
        a_secret_in_plain,
        [("peer", "warn", "web answered in N ms; the secret crosses the network in plain: use https")],
    ),
    "a host by name": (
        a_host_by_name,
        [
            (
                "peer",
                "warn",
                "pacs: its host is a name, so its reports that it keeps results are not taken: add networks = "
                '["its address"]',
            )
        ],
    ),
    "a modality": (
        peers(sender("room1")),
        [("peer", "ok", 'room1 may send as "XRAY" from 10.1.2.0/24; it is not asked')],
    ),
    "two of one title": (
        peers(sender("room1"), sender("room2", "10.1.2.7"), sender("room3", "10.1.3.7")),
        [
            ("peer", "ok", 'room1 may send as "XRAY" from 10.1.2.0/24; it is not asked'),
            ("peer", "ok", 'room2 may send as "XRAY" from 10.1.2.7/32; it is not asked'),
            ("peer", "ok", 'room3 may send as "XRAY" from 10.1.3.7/32; it is not asked'),
            (
                "peers",
                "warn",
                'room1 and room2 both send as "XRAY" from the same network: all counts as room1\'s; give each an AE '
                "title or networks of its own",
            ),
        ],
    ),
    "behind a balancer": (
        behind_a_balancer,
        [
            ("peer", "ok", 'room1 may send as "XRAY" from 10.1.2.0/24; it is not asked'),
            (
                "peers",
                "warn",
                "room1 may send from an address that listener.proxy_from names: 10.1.2.9/32: only what a balancer "
                "brings is taken from there; give the addresses that stand in its header",
            ),
        ],
    ),
    "our own title": (
        peers(sender("room1"), node="XRAY"),
        [
            ("peer", "ok", 'room1 may send as "XRAY" from 10.1.2.0/24; it is not asked'),
            ("peers", "warn", 'room1 has this node\'s own AE title "XRAY": give one of them another'),
        ],
    ),
}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch, program)
    yield made
    for close in made.closing:
        close()


def plainly(text: str, bench: Bench) -> str:
    """A text without what differs from machine to machine."""
    text = re.sub(r"\d+ ms(?= where|$|;)", "N ms", text) if "fsync" not in text else text
    text = re.sub(r"^\d+ MB", "N MB", text)
    text = re.sub(r"127\.0\.0\.1:\d{4,5} ", "127.0.0.1:PORT ", text)
    text = re.sub(r"[0-9a-f]{64}", "PRINT", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", "TIME", text)
    text = text.replace(f"user {os.getuid()},", "user {uid},")
    return text.replace(str(bench.root), "{root}").replace(str(bench.folder), "{folder}")


@pytest.mark.dcmtk
@pytest.mark.parametrize("name", TABLE)
def test_what_check_says(bench: Bench, name: str) -> None:
    case, expected = TABLE[name]
    assert [(s.name, s.verdict, plainly(s.text, bench)) for s in case(bench)] == expected


def said_in_code() -> set[tuple[str, int]]:
    """Every place in the code that makes a line."""
    return {
        (module.__name__, node.lineno)
        for module in MODULES
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Said"
    }


@pytest.mark.dcmtk
def test_every_line_of_the_code_is_in_the_table(
    tmp_path: Path, program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[str, int]] = set()

    def watched(*arguments: Any, **more: Any) -> Said:
        frame = sys._getframe(1)
        seen.add((frame.f_globals["__name__"], frame.f_lineno))
        return Said(*arguments, **more)

    for number, (case, _) in enumerate(TABLE.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            for module in MODULES:
                patch.setattr(module, "Said", watched)
            bench = Bench(folder, patch, program)
            list(case(bench))
            for close in bench.closing:
                close()
    assert said_in_code() - seen == set()


def test_the_kernel_is_asked_about_its_clock() -> None:
    assert 0 <= doctor_storage.kernel_clock() <= 5
