"""`overread check` of the files that hosts share: how their folder is mounted, or what their bucket promises."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from config.settings import Settings
from node.admin.said import Said
from node.errors import OverreadError
from node.pipeline.place import shelf_of
from node.storage.mounts import NFS, OVER_NETWORK, Mount, mount_of

COHERENT = frozenset({"beegfs", "ceph", "fuse.ceph", "fuse.ceph-fuse", "gpfs", "lustre"})
"""File systems of many hosts on which all of them see a rename at once, and fsync reaches the disks."""
APART_SECONDS = 300.0
"""So far the clocks of a bucket and of this machine may be apart; at 900 S3 refuses all that is signed."""


def shared(settings: Settings) -> Iterator[Said]:
    """Nothing where the files are on a disk of this machine."""
    if settings.spool.dir:
        yield from _folder(settings.spool.dir, settings)
    if settings.spool.bucket:
        yield from _bucket(settings)


def _folder(root: Path, settings: Settings) -> Iterator[Said]:
    """Whether what is synced and renamed in `spool.dir` is that on its server, and stays so."""
    mount = mount_of(root)
    if mount is None or mount.kind not in OVER_NETWORK:
        return
    on = f"{root} is on {mount.kind}"
    if settings.spool.bucket:
        text = "and only holds copies of what is in the bucket: choose spool.dir on a disk of this machine"
        yield Said("spool", "warn", f"{on}, {text}")
    elif mount.kind in NFS:
        yield from _nfs(on, mount)
    elif mount.kind in COHERENT:
        yield Said("spool", "ok", f"{on}, which hosts may share")
    else:
        text = "of which nobody knows that a file that was synced and renamed stays: use NFS 4, CephFS or spool.bucket"
        yield Said("spool", "fail", f"{on}, {text}")


def _nfs(on: str, mount: Mount) -> Iterator[Said]:
    """nfs(5): what its options mean for files that were acknowledged."""
    wrong = []
    if loose := sorted(mount.options & {"soft", "softerr"}):
        text = "what is written while the server is away may be lost in silence: mount it with hard"
        wrong.append(Said("spool", "fail", f"{on} with {loose[0]}: {text}"))
    locks = mount.option("local_lock")
    if locks not in ("", "none") or "nolock" in mount.options:
        text = "locks would hold on this host alone: mount it without nolock and local_lock"
        wrong.append(Said("spool", "fail", f"{on} with {f'local_lock={locks}' if locks else 'nolock'}: {text}"))
    version = mount.option("vers")
    if version.startswith(("2", "3")):
        text = "its locks need a service of their own, and outlive a host that died: mount it with vers=4.2"
        wrong.append(Said("spool", "warn", f"{on} with vers={version}: {text}"))
    yield from wrong or [Said("spool", "ok", f"{on}, version {version or '4'}, mounted hard")]


def _bucket(settings: Settings) -> Iterator[Said]:
    """Whether the bucket answers, takes what we put there and writes over nothing; and its clock."""
    try:
        bucket = shelf_of(settings)
        first, apart = bucket.keeps_first(), bucket.clock() - time.time()
    except (OverreadError, OSError) as error:
        said = getattr(error, "strerror", None) or str(error)
        text = "see spool.endpoint, and who AWS_PROFILE or AWS_ACCESS_KEY_ID says that we are"
        yield Said("bucket", "fail", f"{said}: {text}")
        return
    if not first:
        text = "ignores If-None-Match: two hosts that start at the same moment may disagree who the node is"
        yield Said("bucket", "warn", f"{bucket.name} {text}; start the first one alone")
    if abs(apart) > APART_SECONDS:
        yield Said("bucket", "warn", f"its clock is {apart:+.0f} s from this machine's: set both by NTP")
    if first and abs(apart) <= APART_SECONDS:
        yield Said("bucket", "ok", f"{bucket.name} takes what is put there, and writes over nothing")
