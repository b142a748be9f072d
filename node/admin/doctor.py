"""Is this node able to work: one line for each thing that it needs, with what to change where it is not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import node
from config.settings import Settings
from node.admin.doctor_models import models
from node.admin.doctor_network import certificates, peers, ports
from node.admin.doctor_storage import clock, storage
from node.admin.said import Said
from node.errors import ImportNameError

IMPORT_NAMES = ("node", "models", "training", "config")
OURS = "overread"


def import_names() -> None:
    """See that `node`, `models`, `training` and `config` are this program's own.

    The names are common ones: another distribution that brings a module of the same name would be imported in our
    place, or overwritten by us.

    Raises:
        ImportNameError: naming the module and who else claims it.
    """
    owners = importlib.metadata.packages_distributions()
    home = Path(node.__file__).resolve().parent.parent
    for name in IMPORT_NAMES:
        others = sorted({d for d in owners.get(name, []) if d.lower() != OURS})
        if others:
            raise ImportNameError(
                f"the distribution {', '.join(others)} also brings a module named {name!r}: install Overread into an "
                f"environment of its own"
            )
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != home / name / "__init__.py":
            raise ImportNameError(
                f"the module {name!r} is imported from {origin}, not from {home / name}: take that folder off the path"
            )


def examine(settings: Settings, file: Path) -> Iterator[Said]:
    """Look at everything once; nothing is changed but probe files that are deleted again."""
    yield Said("settings", "ok", f"{file} is valid")
    yield modules()
    yield from storage(settings)
    yield from clock(settings)
    yield from ports(settings)
    yield from certificates(settings)
    yield from models(settings)
    yield from peers(settings)


def modules() -> Said:
    try:
        import_names()
    except ImportNameError as error:
        return Said("modules", "fail", str(error))
    return Said("modules", "ok", "node, models, training and config are ours")
