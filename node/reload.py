"""Taking up a changed settings file while the node runs: checked in a process of its own, then put in force, or not.

`python -m node.reload FILE IN_FORCE` is the check: it reads the file once and answers with what it read, or why it may
not be taken up. `reload` waits for it and for the roles, one step at a time, as its supervisor has others to watch.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config import changes, inforce
from config.settings import Settings, SettingsFileError
from node.errors import OverreadError
from node.storage import roles

CHECK_SECONDS = 60.0
"""A check reads each bundle's bytes; one that takes longer waits for a disk that does not answer."""
READY_SECONDS = 60.0
RESTART = "restart the node"
ANEW = DISPATCH, DASHBOARD = "dispatch", "web"
"""Roles that take settings up in a new process; nobody waits for them meanwhile."""


@dataclass(frozen=True)
class Reloaded:
    """How a reload ended: `refused` says why nothing was changed; `said` what was taken up, `warned` who has not
    done so yet, `at_start` what was not."""

    refused: str = ""
    said: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    at_start: tuple[str, ...] = ()
    settings: Settings | None = None
    """In force now; None where nothing changed."""


Steps = Generator[None, None, Reloaded]


def examined(file: Path, in_force: Settings, routes: dict[str, str] | None) -> dict[str, Any]:
    """What a settings file would change, ready for JSON; `routes` are the bundles of the routes as they are.

    Raises:
        SettingsFileError, SettingsError: it may not be taken up.
    """
    from node.pipeline.peers import identity
    from node.pipeline.plan import plan

    new = Settings.load(file)
    if (in_force.tls is None) != (new.tls is None):
        raise SettingsFileError(f"{file}: [tls] was {'removed' if new.tls is None else 'added'}: {RESTART}")
    taken, at_start = changes.held_back(in_force, new)
    try:
        taken = inforce.restored(inforce.dumped(taken), file)
    except ValidationError as error:
        words = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors(include_url=False))
        keys = ", ".join(at_start)
        why = f"{keys} cannot change while the node runs, and without that: {words}"
        raise SettingsFileError(f"{file}: {why}: {RESTART}") from None
    planned = {p.route.name: p.bundle for p in plan(taken)}
    identity(taken)
    said = changes.differences(in_force, taken)
    for name, bundle in planned.items():
        if routes and routes.get(name, bundle) != bundle:
            said.append(f"route {name} runs {bundle} (was {routes[name]})")
    return {"settings": inforce.dumped(taken), "said": said, "at_start": at_start}


def main(arguments: Sequence[str]) -> int:
    """Print the verdict on a settings file as JSON."""
    file, kept = map(Path, arguments)
    in_force, _ = inforce.read(kept)
    routes = roles.status(in_force.node.data_dir, ["dispatch"])["dispatch"].get("routes")
    try:
        verdict = examined(file, in_force, routes)
    except (SettingsFileError, OverreadError) as error:
        verdict = {"refused": str(error)}
    sys.stdout.write(json.dumps(verdict))
    return 0


def behind(file: Path) -> Settings | None:
    """The settings of the node that runs by an earlier text of this file; None when there is none."""
    for said in roles.supervisors(inforce.data_dir_of(file)).values():
        if Path(said["file"]).resolve() == file.resolve():
            return inforce.read(Path(said["in_force"]))[0]
    return None


def reload(
    file: Path,
    kept: Path,
    *,
    processes: Sequence[str],
    wake: Callable[[], None],
    renew: Callable[[str], None],
) -> Steps:
    """Take a settings file up: the roles that can do so in place first, then the others in new processes.

    A role that cannot work with the settings refuses them, and all go back to those that were in force. One that was
    not ready before is not asked: when it starts it does so with the new ones. The dashboard never stands in the way.
    `kept` is where the settings lie; `renew` has a process end in order and starts it anew.
    """
    old, old_at = inforce.read(kept)
    verdict = yield from _checked(file, kept)
    if "refused" in verdict:
        return Reloaded(refused=str(verdict["refused"]))
    at_start = tuple(verdict["at_start"])
    if not verdict["said"]:
        return Reloaded(at_start=at_start)
    new, at = inforce.restored(verdict["settings"], old.file or file), time.time()
    data_dir = old.node.data_dir
    ready = _ready(data_dir, processes)
    inforce.write(new, kept, at=at)
    wake()
    in_place = [name for name in ready if name not in ANEW]
    # a batch may be running, and models may have to be loaded
    wrong = yield from _taken_up(data_dir, in_place, at, seconds=old.infer.deadline_seconds + READY_SECONDS)
    renews = DISPATCH in processes and not wrong
    if renews:
        renew(DISPATCH)
        if DISPATCH in ready:
            wrong = yield from _taken_up(data_dir, [DISPATCH], at, seconds=2 * READY_SECONDS)
    if wrong:
        inforce.write(old, kept, at=old_at)
        wake()
        if renews:
            renew(DISPATCH)
        return Reloaded(refused=f"{file}: {wrong}")
    warned = [f"{name} was not ready: it takes it up when it starts" for name in processes if name not in ready]
    if DASHBOARD in processes:
        renew(DASHBOARD)
        wrong = yield from _taken_up(data_dir, [DASHBOARD] if DASHBOARD in ready else [], at, seconds=2 * READY_SECONDS)
        warned += [wrong] if wrong else []
    return Reloaded(said=tuple(verdict["said"]), warned=tuple(warned), at_start=at_start, settings=new)


def _ready(data_dir: Path, names: Sequence[str]) -> list[str]:
    """Which of these processes work now."""
    found = roles.status(data_dir, names)
    return [name for name, said in found.items() if said["running"] and said["state"] == "ready"]


def _checked(file: Path, kept: Path) -> Generator[None, None, dict[str, Any]]:
    answer = kept.with_suffix(".verdict")
    command = [sys.executable, "-m", "node.reload", str(file), str(kept)]
    with answer.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stdin=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + CHECK_SECONDS
    try:
        while process.poll() is None:
            if time.monotonic() > until:
                return {"refused": f"{file}: could not be checked within {CHECK_SECONDS:g} seconds"}
            yield
        verdict = answer.read_text()
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            answer.unlink()
    if process.returncode or not verdict:
        return {"refused": f"{file}: could not be checked: its check ended with {process.returncode}, see the log"}
    return dict(json.loads(verdict))


def _taken_up(data_dir: Path, names: Sequence[str], at: float, *, seconds: float) -> Generator[None, None, str]:
    """Wait until these processes run by the settings of `at`; why not, or ""."""
    until = time.monotonic() + seconds
    while True:
        waiting = []
        for name, said in roles.status(data_dir, names).items():
            if said.get("refused", {}).get("at") == at:
                return f"{name} cannot work with it: {said['refused']['why']}"
            if not said["running"] or said["state"] != "ready" or said.get("settings") != at:
                waiting.append(name)
        if not waiting:
            return ""
        if time.monotonic() > until:
            return f"{', '.join(waiting)} did not take it up within {seconds:g} seconds: see the log"
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
