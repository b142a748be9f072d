"""Who has a role is known by its lock; asking takes it from nobody."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.errors import RoleTaken
from node.storage import roles


@contextmanager
def asked(data_dir: Path, name: str) -> Iterator[None]:
    """Somebody just asks about this lock."""
    path = data_dir / roles.FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    flock, waiting = fcntl.flock, threading.Event()

    def stay(file: object, operation: int) -> None:
        flock(file, operation)  # type: ignore[arg-type]
        inside.set()
        waiting.wait(10)

    inside = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", stay)
        asker = threading.Thread(target=roles._is_locked, args=(path,))
        asker.start()
        assert inside.wait(10)
    try:
        yield
    finally:
        waiting.set()
        asker.join()


def test_two_who_ask_do_not_take_each_other_for_the_role(tmp_path: Path) -> None:
    with asked(tmp_path, "web.lock"), asked(tmp_path, "web.owner"):
        assert not roles.status(tmp_path, ["web"])["web"]["running"]
        assert not roles.is_owned(tmp_path, "web")


def test_whoever_asks_keeps_no_supervisor_from_its_roles(tmp_path: Path) -> None:
    taken: list[bool] = []

    def own() -> None:
        with roles.own(tmp_path, ["web"]):
            taken.append(roles.is_owned(tmp_path, "web"))

    owner = threading.Thread(target=own)
    with asked(tmp_path, "web.owner"):
        owner.start()
        owner.join(0.2)
        assert owner.is_alive(), "it waits for who asks"
    owner.join(10)
    assert taken == [True]


def test_a_role_has_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "PROBED_SECONDS", 0.1)
    with roles.own(tmp_path, ["web", "infer"]):
        assert roles.is_owned(tmp_path, "infer")
        with pytest.raises(RoleTaken, match="has the role infer"), roles.own(tmp_path, ["infer"]):
            pass
    assert not roles.is_owned(tmp_path, "web")
