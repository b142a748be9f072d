"""Which bundles there are. Reads folders, verifies each bundle once, keeps it; never loads a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.bundle import SPEC, Bundle, BundleError

BUNDLES = Path(__file__).resolve().parent / "bundles"
"""The bundles that ship."""


class Registry:
    """The bundles in some folders. Bundles are immutable, so each is verified once per registry."""

    def __init__(self, folders: Sequence[Path] = (BUNDLES,)) -> None:
        self._folders = tuple(folders)
        self._loaded: dict[Path, Bundle] = {}

    def find(self, ref: str) -> Bundle:
        """The bundle of "name@version", or the newest version of "name".

        Raises:
            BundleError: there is none (says which there are), two folders hold different ones, or it is damaged.
        """
        name, _, version = ref.partition("@")
        fitting = [p for p in self._paths() if _parts(p)[0] == name and version in ("", _parts(p)[1])]
        if not fitting:
            have = ", ".join("@".join(_parts(p)) for p in self._paths()) or "none"
            places = ", ".join(str(f) for f in self._folders)
            raise BundleError(f"{ref}: no such bundle in {places} (have: {have})")
        newest = max(_version(p) for p in fitting)
        found = [self._load(p) for p in fitting if _version(p) == newest]
        if len({b.digest for b in found}) > 1:
            raise BundleError(f"{ref}: different bundles of that name in {' and '.join(str(b.path) for b in found)}")
        return found[0]

    def all(self) -> list[Bundle]:
        """Every bundle, by name and version.

        Raises:
            BundleError: one of them is damaged.
        """
        return [self._load(p) for p in self._paths()]

    def findings(self) -> list[Bundle]:
        """The newest version of each bundle that names a gate: what a person asks for without naming a bundle."""
        newest = {b.spec.name: b for b in self.all()}
        return [b for b in newest.values() if b.spec.gate]

    def _paths(self) -> list[Path]:
        found = (p for folder in self._folders if folder.is_dir() for p in folder.iterdir())
        return sorted((p for p in found if (p / SPEC).is_file()), key=lambda p: (_parts(p)[0], _version(p)))

    def _load(self, path: Path) -> Bundle:
        if path not in self._loaded:
            self._loaded[path] = Bundle.load(path)
        return self._loaded[path]


def _parts(path: Path) -> tuple[str, str]:
    name, _, version = path.name.rpartition("-")
    return name, version


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(n) if n.isdigit() else -1 for n in _parts(path)[1].split("."))
