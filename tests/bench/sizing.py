"""`python -m tests.bench.sizing [--measure]`: how long studies take by how many come and who works, as a simulation.

A day of studies arrives by the profile of `sizing.toml`, each hour at random; they are received, settle, wait for a
worker that reads them, and for a dispatcher that delivers. Times are drawn from the measured figures there. Turnaround
is from the last image to the last result that the PACS took. `config/deploy/SIZING.md` shows the table.

With `--measure` a real node is run beside it at three rates, with a reader that sleeps, and both are printed: the
simulation then reckons with that reader and with what the node took for a study at the lowest rate.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import simpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FIGURES = tomllib.loads(Path(__file__).with_name("sizing.toml").read_text())
SEED = 20261201
HOUR = 3600.0
SIZES = ((10, 1, 1), (100, 1, 1), (1000, 2, 2))
"""Studies in the busiest hour, receivers, workers."""


@dataclass
class Load:
    """One study: how many of its images are sent, how many are read, and how long each step takes."""

    receive: float
    read: float
    report: float
    deliver: float


@dataclass
class House:
    """Who works, and what became of the studies; times in seconds."""

    env: simpy.Environment
    receivers: int
    workers: int
    dispatchers: int = 2
    settle: float = 3.0
    tick: float = 1.0
    waited: list[float] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=lambda: {"receive": 0.0, "infer": 0.0, "deliver": 0.0})

    def __post_init__(self) -> None:
        counts = {"receive": self.receivers, "infer": self.workers, "deliver": self.dispatchers}
        self.places = {name: simpy.Resource(self.env, count) for name, count in counts.items()}

    def at(self, place: str, seconds: float) -> Iterator[Any]:
        with self.places[place].request() as turn:
            yield turn
            yield self.env.timeout(seconds)
        self.busy[place] += seconds

    def study(self, load: Load, dice: random.Random) -> Iterator[Any]:
        yield from self.at("receive", load.receive)
        came = self.env.now
        yield self.env.timeout(self.settle + dice.uniform(0, self.tick))
        yield from self.at("infer", load.read + load.report)
        yield from self.at("deliver", load.deliver)
        self.waited.append(self.env.now - came)


def drawn(figure: dict[str, float], dice: random.Random, times: int = 1) -> float:
    """So many times one of a lognormal distribution with this median and 95th percentile."""
    sigma = math.log(figure["spread"]) / 1.645
    return sum(figure["seconds"] * dice.lognormvariate(0.0, sigma) for _ in range(times))


def of_the_mix(dice: random.Random) -> Load:
    mix, study = FIGURES["mix"], FIGURES["study"]
    if dice.random() < mix["films"]:
        image, sent, read, jobs = FIGURES["image"]["film"], mix["images_of_films"], mix["images_of_films"], 1
    else:
        image, read = FIGURES["image"]["slice"], mix["series_of_slices"]
        sent, jobs = read * mix["slices_of_series"], mix["series_of_slices"]
    return Load(
        drawn(image["receive"], dice, sent),
        drawn(image["read"], dice, read),
        drawn(study["report"], dice, jobs),
        drawn(study["deliver"], dice, jobs * study["results"]),
    )


def day(rate: float, receivers: int, workers: int, *, seed: int = SEED) -> House:
    """A day whose busiest hour brings `rate` studies on average."""
    dice = random.Random(seed)
    env = simpy.Environment()
    settle = FIGURES["settle"]
    house = House(env, receivers, workers, settle=settle["seconds"], tick=settle["tick_seconds"])
    hours = FIGURES["day"]["hours"]

    def arrive() -> Iterator[Any]:
        for share in hours:
            end, a_second = env.now + HOUR, rate * share / max(hours) / HOUR
            while (pause := dice.expovariate(a_second)) and env.now + pause < end:
                yield env.timeout(pause)
                env.process(house.study(of_the_mix(dice), dice))
            yield env.timeout(end - env.now)

    env.process(arrive())
    env.run()
    return house


def at(values: list[float], part: float) -> float:
    return statistics.quantiles(values, n=1000)[round(part * 1000) - 1]


def bought(rate: float) -> dict[str, float]:
    """What a day of this kind takes besides people's time: gigabytes in, kept a month, out; statements in the busiest
    hour; megabits a second in it."""
    mix, image, study = FIGURES["mix"], FIGURES["image"], FIGURES["study"]
    a_day = rate * sum(FIGURES["day"]["hours"]) / max(FIGURES["day"]["hours"])
    slices = mix["series_of_slices"] * mix["slices_of_series"]
    each = mix["films"] * mix["images_of_films"] * image["film"]["megabytes"]
    each += (1 - mix["films"]) * slices * image["slice"]["megabytes"]
    jobs = mix["films"] + (1 - mix["films"]) * mix["series_of_slices"]
    out = jobs * study["results"] / 2 * study["result_megabytes"]
    return {
        "studies": a_day,
        "in": a_day * each / 1000,
        "month": a_day * 30 * each / 1e6,
        "year": a_day * 365 * out / 1e6,
        "rows": a_day * 365 * study["row_kilobytes"] / 1e6,
        "statements": rate * study["statements"] / HOUR,
        "megabits": rate * (each + out) * 8 / HOUR,
    }


def page() -> str:
    """The table of SIZING.md."""
    lines = [
        "| studies in the busiest hour | a day | receive, infer | p50 | p95 | p99 | infer busy: day, busiest hour "
        "| images a day | kept 30 days | results a year | rows a year | statements a second | network |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rate, receivers, workers in SIZES:
        house, buy = day(rate, receivers, workers), bought(rate)
        busy = house.busy["infer"] / workers / (24 * HOUR)
        peak = busy * 24 * max(FIGURES["day"]["hours"]) / sum(FIGURES["day"]["hours"])
        p50, p95, p99 = (at(house.waited, part) for part in (0.5, 0.95, 0.99))
        lines.append(
            f"| {rate} | {buy['studies']:,.0f} | {receivers}, {workers} | {p50:.1f} s | {p95:.1f} s | {p99:.1f} s "
            f"| {busy:.0%}, {peak:.0%} | {buy['in']:,.0f} GB | {buy['month']:,.1f} TB | {buy['year']:,.1f} TB "
            f"| {buy['rows']:,.1f} GB | {buy['statements']:.1f} | {buy['megabits']:,.0f} Mbit/s |"
        )
    dice = random.Random(SEED)
    loads = [of_the_mix(dice) for _ in range(10_000)]
    most = HOUR / statistics.mean(load.read + load.report for load in loads)
    lines.append(f"\nOne worker on a processor is busy all the time at {round(most, -2):,.0f} studies an hour.")
    return "\n".join(lines)


def measured(rate: float, seconds: float, sleep: float) -> list[float]:
    """Turnarounds of a real node with one worker whose reader sleeps, while studies of one image come at random."""
    from modality_made import Modality
    from running import RunningNode
    from sqlalchemy import func, select

    from node.network.standin import StandIn
    from node.storage import schema

    dice = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="overread-sizing-") as temporary:
        folder = Path(temporary)
        pacs = StandIn(folder / "pacs", ae_title="PACS")
        pacs.start()
        node = RunningNode(
            folder / "node", ("PACS", pacs.port), released=0.5, stub=True, OVERREAD_TEST_STUB_SECONDS=str(sleep)
        )
        node.start()
        (folder / "sent").mkdir()
        sending: list[threading.Thread] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            one = Modality([("127.0.0.1", node.port)], folder / "sent", 0.0, dice.randrange(1 << 30), most=1)
            one.start()
            sending.append(one)
            time.sleep(dice.expovariate(rate))
        for one in sending:
            one.join()
        S, J, R, D = schema.study, schema.job, schema.result, schema.delivery
        last = func.max(D.c.sent_at) - S.c.last_received_at
        query = select(last, func.count(), func.count(D.c.sent_at)).select_from(S).join(J, J.c.study_id == S.c.id)
        query = query.join(R, R.c.job_id == J.c.id).join(D, D.c.result_id == R.c.id).group_by(S.c.id)

        def over() -> list[float] | None:
            with node.parts.store.read() as connection:
                rows = connection.execute(query).all()
            done = [float(row[0]) for row in rows if row[1] == row[2]]  # all are made in one transaction
            return done if len(done) == len(sending) else None

        found = node.wait_for(over, seconds=120)
        node.stop()
        pacs.stop()
    assert isinstance(found, list)
    return found


def simulated(rate: float, seconds: float, images: float, rest: float, *, settle: float) -> list[float]:
    """The same house: one worker, `images` seconds for each of one to three images, `rest` for all else of a study."""
    dice = random.Random(SEED)
    env = simpy.Environment()
    house = House(env, 4, 1, settle=settle, tick=0.1)

    def arrive() -> Iterator[Any]:
        while env.now < seconds * 20:  # longer than life: its own chance counts less
            yield env.timeout(dice.expovariate(rate))
            figure = {"seconds": rest, "spread": 1.3}
            env.process(house.study(Load(0.0, images * dice.randint(1, 3), drawn(figure, dice), 0.02), dice))

    env.process(arrive())
    env.run()
    return house.waited


def held_against_life(seconds: float, sleep: float = 0.2) -> None:
    rates = (0.2, 0.8, 1.4)
    real = {rate: measured(rate, seconds, sleep) for rate in rates}
    rest = max(statistics.median(real[rates[0]]) - 0.5 - 2 * sleep - 0.07, 0.05)
    print(
        f"\nA real node, one worker, {sleep:g} s an image; of the first line the simulation took {rest:.2f} s a study"
    )
    print("| studies an hour | measured: n | p50 | p95 | simulated: p50 | p95 |\n|---|---|---|---|---|---|")
    for rate in rates:
        told = simulated(rate, seconds, sleep, rest, settle=0.5)
        cells = [f"{at(v, part):.2f} s" for v in (real[rate], told) for part in (0.5, 0.95)]
        print(f"| {rate * HOUR:,.0f} | {len(real[rate])} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true", help="run a real node beside it, three times")
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    print(page())
    if given.measure:
        held_against_life(given.seconds)


if __name__ == "__main__":
    main()
