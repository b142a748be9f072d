"""Receivers on several hosts write side by side, and what is decided from rows is decided as by one after the other."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hosts_made import new_database, store_on
from rows import NOW, ORIGIN, received
from sqlalchemy import func, select

from node.domain import InstanceState
from node.storage import instances, schema, studies
from node.storage.store import Store


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    url = new_database()
    made = store_on("a1", url, tmp_path / "spool"), store_on("b2", url, tmp_path / "spool")
    studies.begin_association(made[0], ORIGIN)
    yield made
    for one in made:
        one.close()


def at_once(*steps: Callable[[], object]) -> None:
    start = threading.Barrier(len(steps))

    def run(step: Callable[[], object]) -> None:
        start.wait()
        step()

    with ThreadPoolExecutor(len(steps)) as threads:
        list(threads.map(run, steps))


def test_two_hosts_get_the_same_studies_by_halves(two: tuple[Store, Store]) -> None:
    wanted = [(f"1.2.{study}", number) for study in range(5) for number in range(1, 13)]

    def receive(store: Store, mine: list[tuple[str, int]]) -> None:
        random.shuffle(mine)
        for uid, number in mine:
            one = received(store, uid, number)
            assert instances.remember(store, one, ORIGIN, own_device_uid="", now=NOW)

    at_once(*(lambda n=n: receive(two[n % 2], wanted[n::4]) for n in range(4)))
    with two[0].read() as connection:
        query = select(schema.study.c.study_instance_uid, func.count()).join(schema.instance)
        found = connection.execute(query.group_by(schema.study.c.study_instance_uid)).all()
    assert sorted(tuple(row) for row in found) == [(f"1.2.{study}", 12) for study in range(5)]


def test_the_same_instance_in_two_studies_at_once_is_seen(two: tuple[Store, Store]) -> None:
    for n in range(10):
        states: list[InstanceState] = []

        def receive(store: Store, study: str, digest: str, uid: str, found: list[InstanceState]) -> None:
            one = replace(received(store, study), sop_instance_uid=uid, digest=digest * 64)
            remembered = instances.remember(store, one, ORIGIN, own_device_uid="", now=NOW)
            assert remembered
            found.append(remembered.state)

        uid = f"1.7.{n}"
        at_once(
            lambda uid=uid, found=states, n=n: receive(two[0], f"1.3.{n}", "a", uid, found),
            lambda uid=uid, found=states, n=n: receive(two[1], f"1.4.{n}", "b", uid, found),
        )
        assert states.count(InstanceState.CURRENT) == 1


def test_a_receiver_does_not_wait_for_a_worker_that_ends_a_job_of_another_study(two: tuple[Store, Store]) -> None:
    here, there = two
    with there.write_of(77):
        assert instances.remember(here, received(here, "1.2.3"), ORIGIN, own_device_uid="", now=NOW)
