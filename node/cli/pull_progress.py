"""How far a pull is, while it runs: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from node.admin.pulls import ending, standing_line
from node.admin.wording import moment, plural
from node.cli.printing import err
from node.pipeline.pull import Progress
from node.storage import bulk
from node.storage.bulk import Standing
from node.storage.pulls import Pull
from node.storage.store import Store

LOOK_SECONDS = 10.0
"""So often rows are asked how fast it goes: also of those who read."""
LINE_SECONDS = 300.0
"""So often a line is written where there is no terminal."""
MB = 1e6


@contextmanager
def followed(store: Store, one: Pull) -> Iterator[Callable[[Progress], None]]:
    """Shows what a pull tells: a bar on a terminal; elsewhere a line at once, and every LINE_SECONDS."""
    follower = _Follower(store, one)
    if not err.is_terminal:
        yield follower.write
        return
    columns = (TextColumn(f"pull #{one.id}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    with Bar(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None, said=f"asking {one.peer}")

        def show(how_far: Progress) -> None:
            done = how_far.done + how_far.dead
            bar.update(task, total=how_far.total or None, completed=done, said=follower.said(how_far))

        yield show


class _Follower:
    """Puts into words what a pull tells, with what the rows say besides, which are not asked at each word."""

    def __init__(self, store: Store, one: Pull) -> None:
        self._store, self._pull = store, one
        self._began = time.monotonic()
        self._stands: Standing | None = None
        self._looked_at = self._wrote_at = float("-inf")
        self._why = ""

    def said(self, how_far: Progress) -> str:
        """Beside the bar, which counts studies."""
        if how_far.asked:
            return _asking(self._pull, how_far.asked)
        seconds = max(time.monotonic() - self._began, 0.001)
        said = [f"{plural(how_far.instances, 'instance')}, {how_far.size / MB / seconds:.1f} MB/s"]
        stands = self._look()
        said += [f"{stands.read:,} read"] if stands.read else []
        said += [f"{stands.read_per_hour or stands.brought_per_hour or 0:,.0f} an hour"] * bool(stands.brought_per_hour)
        said += ending(stands, now=time.time())
        said += [f"rests: {how_far.why}"] if how_far.why else []
        return ", ".join(said + ([f"next in {how_far.waits:.0f} s"] if how_far.waits >= 1 else []))

    def write(self, how_far: Progress) -> None:
        """A line, if it is time for one, or the pull rests and no line has said so lately."""
        now = time.monotonic()
        is_time = now - self._wrote_at >= LINE_SECONDS
        if not is_time and (self._why or not how_far.why):
            return
        self._wrote_at, self._why = now, how_far.why
        said = _asking(self._pull, how_far.asked) if how_far.asked else standing_line(self._look(), now=time.time())
        rests = f"; rests: {how_far.why}" if how_far.why else ""
        err.print(f"{moment(time.time())} pull #{self._pull.id}: {said}{rests}", markup=False)

    def _look(self) -> Standing:
        now = time.monotonic()
        if self._stands is None or now - self._looked_at >= LOOK_SECONDS:
            self._stands, self._looked_at = bulk.standing(self._store, self._pull, now=time.time()), now
        return self._stands


def _asking(one: Pull, asked: tuple[int, int]) -> str:
    return f"asking {one.peer}: {asked[0]:,} of {asked[1]:,} questions answered"
