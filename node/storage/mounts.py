"""On what kind of file system a path is, and how that was mounted, as the kernel says (proc(5), mountinfo)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
NFS = frozenset({"nfs", "nfs4"})
OVER_NETWORK = NFS | {
    "9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "orangefs", "smb3", "smbfs",
    *(f"fuse.{name}" for name in (
        "ceph", "ceph-fuse", "curlftpfs", "davfs", "gcsfuse", "glusterfs", "goofys", "juicefs", "mfs", "mount-s3",
        "mountpoint-s3", "rclone", "s3fs", "seaweedfs", "sshfs",
    )),
}  # fmt: skip
"""Whose bytes are on another machine: what one host writes and locks there, another may see later, or otherwise."""


@dataclass(frozen=True)
class Mount:
    """What is mounted where: its type, and the options that the file system itself goes by."""

    place: Path
    kind: str
    options: frozenset[str]

    def option(self, name: str) -> str:
        """The value of `name=...`; "" where it is not said."""
        return next((o.partition("=")[2] for o in self.options if o.startswith(f"{name}=")), "")


def mount_of(path: Path) -> Mount | None:
    """The mount that a path is on, which need not exist yet; None where the system does not tell."""
    try:
        mounted = {mount.place: mount for mount in _mounts(MOUNTS.read_text())}
    except OSError:
        return None
    real = path.resolve()
    return next((mounted[folder] for folder in (real, *real.parents) if folder in mounted), None)


def file_system(path: Path) -> str:
    """The type of the file system that a path is on; "" where the system does not tell."""
    mount = mount_of(path)
    return mount.kind if mount else ""


def _mounts(table: str) -> Iterator[Mount]:
    """The later of two on one place is the one that is seen."""
    for line in table.splitlines():
        # The fifth field is the mount point; after one that is "-" come type, source and the file system's options
        fields, _, rest = line.partition(" - ")
        place = fields.split()[4].replace("\\040", " ")
        kind, _, options = (*rest.split(), "", "")[:3]
        yield Mount(Path(place), kind, frozenset(options.split(",")))
