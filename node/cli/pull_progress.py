"""How far a pull is and what it cost, for people: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from node.admin.wording import moment, plural
from node.cli.printing import err
from node.pipeline.pull import Progress
from node.storage import bulk
from node.storage.bulk import Cost, Standing
from node.storage.pulls import Pull
from node.storage.store import Store

LOOK_SECONDS = 10.0
"""So often rows are asked how fast it goes: also of those who read."""
LINE_SECONDS = 300.0
"""So often a line is written where there is no terminal."""
GB, MB, HOUR = 1e9, 1e6, 3600.0


@dataclass(frozen=True)
class Prices:
    """What an hour of one worker and a GB received cost, in whatever currency; 0 where nobody said."""

    gpu_hour: float = 0.0
    gb: float = 0.0

    def told(self, cost: Cost) -> dict[str, Any]:
        """A cost for programs."""
        said: dict[str, Any] = asdict(cost) | {"gpu_hours": cost.gpu_hours, "per_1000_studies": cost.per_thousand()}
        return said | ({"price": self.of(cost)} if self.gpu_hour or self.gb else {})

    def of(self, cost: Cost) -> float:
        return cost.price(gpu_hour=self.gpu_hour, gb=self.gb)


def cost_lines(cost: Cost, prices: Prices | None = None) -> list[str]:
    """What a pull took: in all, for a thousand studies, and as a price where one is known."""
    said = [f"cost: {_quantities(vars(cost))}"]
    thousand = cost.per_thousand()
    if thousand:
        said.append(f"per 1,000 studies: {_quantities(thousand)}")
    if prices and (prices.gpu_hour or prices.gb):
        all_ = prices.of(cost)
        each = f", {1000 * all_ / cost.studies:,.2f} per 1,000 studies" if cost.studies else ""
        said.append(
            f"price: {all_:,.2f}{each} ({cost.gpu_hours:.2f} worker hours at {prices.gpu_hour:g}, "
            f"{cost.received / GB:.3f} GB received at {prices.gb:g})"
        )
    return said


def _quantities(of: dict[str, Any]) -> str:
    return (
        f"{of['images']:,.0f} images, {size(of['received'])} received in {duration(of['transfer_seconds'])}; "
        f"{of['jobs']:,.0f} jobs in {duration(of['worker_seconds'])} of a worker; on disk {size(of['kept_images'])} of "
        f"images, {size(of['kept_results'])} of results"
    )


def standing_line(stands: Standing) -> str:
    """How many are done, failed and waiting, how fast it goes, and when it may end."""
    done = f"{stands.brought:,} of {stands.total:,} studies brought"
    given_up = f", {stands.given_up:,} given up" if stands.given_up else ""
    read = f"{stands.read:,} read, {stands.unread:,} waiting" + (f", {stands.failed:,} failed" if stands.failed else "")
    rates = [
        f"{rate:,.0f} an hour {verb}"
        for rate, verb in ((stands.brought_per_hour, "brought"), (stands.read_per_hour, "read"))
        if rate is not None
    ]
    return "; ".join([f"{done}{given_up}", read, *rates, *_end(stands)])


def _end(stands: Standing) -> list[str]:
    left = stands.seconds_left
    return [f"ends in about {duration(left)}, {moment(time.time() + left)}"] if left else []


@contextmanager
def followed(store: Store, one: Pull) -> Iterator[Callable[[Progress], None]]:
    """Shows what a pull tells: a bar on a terminal; elsewhere a line at once, every LINE_SECONDS, and when it rests."""
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
        said += _end(stands)
        said += [f"rests: {how_far.why}"] if how_far.why else []
        return ", ".join(said + ([f"next in {how_far.waits:.0f} s"] if how_far.waits >= 1 else []))

    def write(self, how_far: Progress) -> None:
        """A line, if it is time for one or the pull begins to rest or to go on."""
        now = time.monotonic()
        if now - self._wrote_at < LINE_SECONDS and bool(how_far.why) == bool(self._why):
            return
        self._wrote_at, self._why = now, how_far.why
        said = _asking(self._pull, how_far.asked) if how_far.asked else standing_line(self._look())
        rests = f"; rests: {how_far.why}" if how_far.why else ""
        err.print(f"{moment(time.time())} pull #{self._pull.id}: {said}{rests}", markup=False)

    def _look(self) -> Standing:
        now = time.monotonic()
        if self._stands is None or now - self._looked_at >= LOOK_SECONDS:
            self._stands, self._looked_at = bulk.standing(self._store, self._pull, now=time.time()), now
        return self._stands


def _asking(one: Pull, asked: tuple[int, int]) -> str:
    return f"asking {one.peer}: {asked[0]:,} of {asked[1]:,} questions answered"


def size(n: float) -> str:
    return f"{n / GB:,.2f} GB" if n >= GB else f"{n / MB:,.1f} MB"


def duration(seconds: float) -> str:
    """Rounded, as people say it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 48 * HOUR else f"{seconds / HOUR / 24:.1f} days"
