"""Pulls as people follow them: how far each is, how fast it goes, what it cost. Reads rows, changes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from node.admin.wording import moment
from node.storage import bulk, pulls
from node.storage.bulk import Cost, Standing
from node.storage.pulls import Pull
from node.storage.store import Store

GB, MB, HOUR = 1e9, 1e6, 3600.0
NEWEST = 10


@dataclass(frozen=True)
class Seen:
    """One pull with what is told of it in words."""

    pull: Pull
    stands: Standing
    cost: Cost
    words: tuple[str, ...]


def seen(store: Store, *, now: float) -> list[Seen]:
    """The newest pulls, the newest first."""
    found = []
    for one in pulls.latest(store, NEWEST):
        stands, cost = bulk.standing(store, one, now=now), bulk.cost(store, one)
        found.append(Seen(one, stands, cost, (standing_line(stands, now=now), *cost_lines(cost))))
    return found


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


def standing_line(stands: Standing, *, now: float) -> str:
    """How many are done, failed and waiting, how fast it goes, and when it may end."""
    done = f"{stands.brought:,} of {stands.total:,} studies brought"
    given_up = f", {stands.given_up:,} given up" if stands.given_up else ""
    read = f"{stands.read:,} read, {stands.unread:,} waiting" + (f", {stands.failed:,} failed" if stands.failed else "")
    rates = [
        f"{rate:,.0f} an hour {verb}"
        for rate, verb in ((stands.brought_per_hour, "brought"), (stands.read_per_hour, "read"))
        if rate is not None
    ]
    return "; ".join([f"{done}{given_up}", read, *rates, *ending(stands, now=now)])


def ending(stands: Standing, *, now: float) -> list[str]:
    """When it may end, where that can be told."""
    left = stands.seconds_left
    return [f"ends in about {duration(left)}, {moment(now + left, '%Y-%m-%d %H:%M')}"] if left else []


def size(n: float) -> str:
    return f"{n / GB:,.2f} GB" if n >= GB else f"{n / MB:,.1f} MB"


def duration(seconds: float) -> str:
    """Rounded, as people say it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 48 * HOUR else f"{seconds / HOUR / 24:.1f} days"
