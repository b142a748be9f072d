"""What a folder lies on: a disk of this machine, its memory, or a file system that crosses a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
OVER_NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs",
        "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.juicefs",
    }
)  # fmt: skip
NO_DATABASE = (
    "whose locks and fsync a SQLite database cannot rely on: choose node.data_dir on a disk of this machine, or "
    "database.url"
)


@dataclass(frozen=True)
class Mount:
    """A mounted file system: its type, and the options that its driver goes by."""

    kind: str
    options: frozenset[str]


def of(path: Path) -> Mount | None:
    """What a path lies on; None where the system does not tell."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return None
    mounted: dict[Path, Mount] = {}
    for line in lines:
        # proc(5): the fifth field is the mount point, type and options come after a field that is "-"
        fields, _, rest = line.partition(" - ")
        place = fields.split()[4].replace("\\040", " ")
        kind, *more = rest.split()
        mounted[Path(place)] = Mount(kind, frozenset(more[-1].split(",")) if more else frozenset())
    real = path.resolve()
    return next((mounted[folder] for folder in (real, *real.parents) if folder in mounted), None)


def kind(path: Path) -> str:
    """The type of the file system that a path lies on; "" where the system does not tell."""
    found = of(path)
    return found.kind if found else ""
