"""The sizing page shows what the simulation says, and the simulation says what queues do."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from bench import sizing

PAGE = Path(__file__).resolve().parent.parent / "config" / "deploy" / "SIZING.md"


def test_the_page_shows_the_table_that_the_program_prints() -> None:
    assert sizing.page() in PAGE.read_text()


def test_the_same_chance_gives_the_same_day_and_another_one_another() -> None:
    one, same, other = (sizing.day(100, 1, 1, seed=seed).waited for seed in (1, 1, 2))
    assert one == same != other


def test_a_day_brings_what_its_busiest_hour_promises() -> None:
    house = sizing.day(1000, 2, 2)
    assert len(house.waited) == pytest.approx(sizing.bought(1000)["studies"], rel=0.05)


def test_times_are_drawn_about_the_measured_ones() -> None:
    import random

    dice = random.Random(3)
    values = sorted(sizing.drawn({"seconds": 0.2, "spread": 1.5}, dice) for _ in range(20_000))
    assert statistics.median(values) == pytest.approx(0.2, rel=0.02)
    assert sizing.at(values, 0.95) == pytest.approx(0.3, rel=0.03)


def test_who_is_too_busy_makes_studies_wait_and_another_worker_mends_it() -> None:
    slow, quick = (sizing.day(4000, 8, workers).waited for workers in (1, 3))
    assert sizing.at(slow, 0.95) > 2 * sizing.at(quick, 0.95)
