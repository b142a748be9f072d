"""The pixels of jobs, as many at a time as fit into memory. Decoded here only: an infer process may die unharmed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL.Image

from models.pixels import Frame, NotAnalysable, read, read_frames
from node.domain import Choice, Instance, Work
from node.edge import whereabouts
from node.storage.shelf import Away
from node.storage.spool import digest_of

log = logging.getLogger(__name__)

PICTURE = 2048
"""Rows or columns, whichever are more, of what is kept of a frame: twice those of the largest picture made of it."""


@dataclass(frozen=True)
class Asked:
    """One image that is to be read: of which job, which frame of which instance, its pixels or why there are none."""

    work: int
    instance: Instance
    number: int
    item: Frame | NotAnalysable


def chunks(
    works: Sequence[Work], policy: str, *, budget: int, batch: int, at_hand: Callable[[Path], Path]
) -> Iterator[list[Asked]]:
    """Images with their pixels, as many at a time as the budget (bytes) of one holds, and no more than a batch.

    Raises:
        Away: a file cannot be had just now.
    """
    chunk: list[Asked] = []
    held = 0
    for n, work in enumerate(works):
        for instance in work.instances:
            for number, item in _pixels(instance, work.job.choice, policy, budget, at_hand):
                held += item.pixels.nbytes if isinstance(item, Frame) else 0
                chunk.append(Asked(n, instance, number, item))
                if held >= budget or len(chunk) >= batch:
                    yield chunk
                    chunk, held = [], 0
    if chunk:
        yield chunk


def _pixels(
    instance: Instance, choice: Choice | None, policy: str, budget: int, at_hand: Callable[[Path], Path]
) -> Iterator[tuple[int, Frame | NotAnalysable]]:
    """The frames of an instance that the job reads, by number: those chosen, or the one of the bundle's policy."""
    numbers = choice.frames.get(instance.sop_instance_uid, ()) if choice else (1,)
    left = list(numbers)
    try:
        path = at_hand(instance.path)
        if digest_of(path) != instance.digest:
            raise NotAnalysable("altered", "The stored file is not the one that was received (its digest differs)")
        if choice is None:
            frame = read(path, frames=policy, budget_bytes=budget)
            left.clear()
            yield frame.number, frame
            return
        for item in read_frames(path, numbers, budget_bytes=budget):
            yield left.pop(0), item
    except Away:
        raise
    except NotAnalysable as error:
        yield from ((number, error) for number in left)
    except OSError as error:
        said = NotAnalysable("unreadable", f"The stored file cannot be read: {error.strerror}")
        yield from ((number, said) for number in left)
    except Exception as error:  # whatever a hostile file makes a codec raise costs this image, not its study
        log.error("image.undecodable instance=%d %s", instance.id, whereabouts(error))
        said = NotAnalysable("undecodable", f"The image cannot be decoded ({type(error).__name__})")
        yield from ((number, said) for number in left)


def shrunk(item: Frame) -> Frame:
    """A frame no larger than a picture of it will be: dozens of large films fit into memory then."""
    if max(item.pixels.shape) <= PICTURE:
        return item
    rows, columns = item.pixels.shape
    scale = PICTURE / max(rows, columns)
    size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    small = PIL.Image.fromarray(item.pixels).resize(size, PIL.Image.Resampling.BOX)
    return replace(item, pixels=np.asarray(small, np.float32))
