"""`python -m tests.bench.sizing [--measure]`: how long studies take by how many come and who works, as a simulation.

A day of studies arrives by the profile of `sizing.toml`, each hour at random; they are received, settle, wait for a
worker that reads them, and for a dispatcher that delivers. Times are drawn from the measured figures there. Turnaround
is from the last image to the last result that the PACS took. `config/deploy/SIZING.md` shows the table.

With `--measure` a real node is run beside it at three rates, with a reader that sleeps, and both are printed. From the
lowest rate, at which nothing waits, the simulation learns two things: for how long a study keeps the worker besides its
images (by the jobs' rows), and how long it takes while nobody works on it. The other rates it predicts.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import simpy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FIGURES = tomllib.loads(Path(__file__).with_name("sizing.toml").read_text())
SEED = 20261201
HOUR = 3600.0
RUNS = 200
BATCH = 8
"""Studies that a worker takes at once, when so many wait (`infer.batch`)."""
SIZES = ((10, 1, 1), (100, 1, 1), (1000, 2, 2))
"""Studies in the busiest hour, receivers, workers."""


@dataclass
class Load:
    """One study: for how many seconds each step is busy with it, and how long nobody is (`between`)."""

    receive: float
    read: float
    report: float
    deliver: float
    between: float = 0.0


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
        counts = {"receive": self.receivers, "deliver": self.dispatchers}
        self.places = {name: simpy.Resource(self.env, count) for name, count in counts.items()}
        self.queue = simpy.Store(self.env)
        for _ in range(self.workers):
            self.env.process(self.worker())

    def at(self, place: str, seconds: float) -> Iterator[Any]:
        with self.places[place].request() as turn:
            yield turn
            yield self.env.timeout(seconds)
        self.busy[place] += seconds

    def worker(self) -> Iterator[Any]:
        """Take what waits, up to a batch; read all of it, then report one by one."""
        while True:
            batch = [(yield self.queue.get())]
            while self.queue.items and len(batch) < BATCH:
                batch.append((yield self.queue.get()))
            yield self.env.timeout(sum(load.read for load, _ in batch))
            for load, reported in batch:
                yield self.env.timeout(load.report)
                self.busy["infer"] += load.read + load.report
                reported.succeed()

    def study(self, load: Load, dice: random.Random) -> Iterator[Any]:
        yield from self.at("receive", load.receive)
        came = self.env.now
        yield self.env.timeout(self.settle + dice.uniform(0, self.tick) + load.between)
        reported = self.env.event()
        yield self.queue.put((load, reported))
        yield reported
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
    # each image that is read gets a picture, as where something is found on all of them
    return Load(
        drawn(image["receive"], dice, sent),
        drawn(image["read"], dice, read),
        drawn(study["report"], dice, jobs) + drawn(study["picture"], dice, read),
        drawn(study["deliver"], dice, jobs + read),
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
    of_slices = (1 - mix["films"]) * mix["series_of_slices"]
    jobs, pictures = mix["films"] + of_slices, mix["films"] * mix["images_of_films"] + of_slices
    out = jobs * study["report_megabytes"] + pictures * study["picture_megabytes"]
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


@dataclass(frozen=True)
class Real:
    """What became of one study in a real node: seconds until all was delivered, those of its worker, its images."""

    waited: float
    worked: float
    images: int


@dataclass(frozen=True)
class Alone:
    """What a study takes at which no other one is: seconds of the worker besides reading, by study and by image; and
    seconds in which nobody works on it."""

    report: float
    picture: float
    between: float

    @classmethod
    def of(cls, studies: Sequence[Real], image: float, settle: float) -> Self:
        by_images = [(one.images, one.worked - image * one.images) for one in studies]
        slope, start = statistics.linear_regression(*zip(*by_images, strict=True))
        between = statistics.median(one.waited - one.worked for one in studies) - settle
        return cls(max(start, 0.0), max(slope, 0.0), max(between, 0.0))


def measured(rate: float, seconds: float, sleep: float) -> list[Real]:
    """A real node with one worker whose reader sleeps, while studies of one to three images come at random."""
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
        images = select(func.count()).where(schema.instance.c.study_id == S.c.id).scalar_subquery()
        query = select(last, func.max(J.c.seconds), images, func.count(), func.count(D.c.sent_at)).select_from(S)
        query = query.join(J, J.c.study_id == S.c.id).join(R, R.c.job_id == J.c.id).join(D, D.c.result_id == R.c.id)
        query = query.group_by(S.c.id)

        def over() -> list[Real] | None:
            with node.parts.store.read() as connection:
                rows = connection.execute(query).all()
            done = [Real(*row[:3]) for row in rows if row[3] == row[4]]  # all are made in one transaction
            return done if len(done) == len(sending) else None

        found = node.wait_for(over, seconds=120)
        node.stop()
        pacs.stop()
    assert isinstance(found, list)
    return found


def simulated(rate: float, seconds: float, image: float, *, alone: Alone, settle: float, seed: int) -> House:
    """The same house for as long, and until its last study is delivered."""
    dice = random.Random(seed)
    env = simpy.Environment()
    house = House(env, 4, 1, settle=settle, tick=0.0)

    def arrive() -> Iterator[Any]:
        while env.now < seconds:
            yield env.timeout(dice.expovariate(rate))
            images = dice.randint(1, 3)
            report = alone.report + alone.picture * images
            env.process(house.study(Load(0.0, image * images, report, 0.0, alone.between), dice))

    env.process(arrive())
    env.run()
    return house


def held_against_life(seconds: float, sleep: float = 0.2) -> None:
    """Each rate for so many seconds, and the simulation as often as makes its own chance small: the middle of its
    runs, and between what nine of ten of them are."""
    rates, settle = (0.2, 0.4, 0.8, 1.2), 0.5
    real = {rate: measured(rate, seconds, sleep) for rate in rates}
    alone = Alone.of(real[rates[0]], sleep, settle)
    print(
        f"\nA real node, one worker, {sleep:g} s an image. By the first line a study keeps the worker for "
        f"{alone.report:.2f} s and {alone.picture:.2f} s an image besides, and takes {alone.between:.2f} s in which "
        "nobody works on it.\n"
        "\n| studies an hour | measured: n | work brought | p50 | p95 | simulated: work brought | p50 | p95 |"
        "\n|---|---|---|---|---|---|---|---|"
    )
    for rate in rates:
        runs = [simulated(rate, seconds, sleep, alone=alone, settle=settle, seed=SEED + n) for n in range(RUNS)]
        told = [(run.busy["infer"] / seconds, at(run.waited, 0.5), at(run.waited, 0.95)) for run in runs]
        waited = [one.waited for one in real[rate]]
        lived = sum(one.worked for one in real[rate]) / seconds, at(waited, 0.5), at(waited, 0.95)
        busy, p50, p95 = ([at(list(values), part) for part in (0.05, 0.5, 0.95)] for values in zip(*told, strict=True))
        cells = f"{lived[0]:.0%} | {lived[1]:.1f} s | {lived[2]:.1f} s | {busy[1]:.0%} ({busy[0]:.0%} to {busy[2]:.0%})"
        said = " | ".join(f"{some[1]:.1f} s ({some[0]:.1f} to {some[2]:.1f})" for some in (p50, p95))
        print(f"| {rate * HOUR:,.0f} | {len(waited)} | {cells} | {said} |")


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
