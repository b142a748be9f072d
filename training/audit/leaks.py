"""The same patient or the same film on both sides of a split. Works on decoded films, never on files.

112,120 films are feasible: a hash takes a millisecond, and all pairs of 256-bit hashes are compared as products of
+1/-1 matrices, block by block, so that the memory stays that of one block.

The limit of 16 bits, measured at 128 px: 411 NIH films at 64 px differ from the same films at 384 px in 12 at the
most, films of two patients in 46 or more (nih_adleberg, pediatric_pneumonia).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from training.audit.subject import Parts, Subject
from training.audit.verdict import LIMITS, Check
from training.cache import Bytes
from training.manifest import Manifest
from training.split import Indices

HASH_SIDE = 16
BITS = HASH_SIDE**2
BLOCK = 4096

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Copies:
    """Pairs of films across a split: byte for byte the same file, and the same picture in another file; the first
    pair of each kind."""

    exact: int
    near: int
    first_exact: tuple[int, int] | None = None
    first_near: tuple[int, int] | None = None


def patients_apart(subject: Subject, cuts: Parts) -> Check:
    """The same patient in two parts of one split."""
    groups = subject.manifest.groups
    shared: set[str] = set()
    for one, other in cuts:
        shared |= set(groups[one]) & set(groups[other])
    unknown = sum(not item.patient for item in subject.manifest.items)
    if shared:
        return Check("patients", "fail", f"{len(shared)} patients are in two splits.", len(shared))
    if unknown == len(subject.manifest.items):
        return Check("patients", "warn", "No patient is known: films of one person may be in two splits.", 0)
    text = "No patient is in two splits."
    if unknown:
        text += f" Of {unknown} films without a known patient this cannot be said."
    return Check("patients", "warn" if unknown else "pass", text, 0)


def duplicates(subject: Subject, cuts: Parts) -> list[Check]:
    """Exact and perceptual copies of one film on both sides of a split."""
    found = copies(hashes(subject.films.pixels), subject.films.digests, cuts)
    return [
        _check("exact duplicates", "the same file", found.exact, found.first_exact, subject),
        _check("perceptual duplicates", "the same picture in another file", found.near, found.first_near, subject),
    ]


def _check(name: str, what: str, pairs: int, first: tuple[int, int] | None, subject: Subject) -> Check:
    if pairs and first:
        one, other = (subject.manifest.items[i].path.name for i in first)
        said = f"{pairs} pairs of films lie across splits that are {what}, such as {one} and {other}."
        return Check(name, "fail", said, pairs)
    return Check(name, "pass", f"No two films across splits are {what}.", 0)


def hashes(pixels: Bytes) -> Flags:
    """(n, 256) bits of imagehash's perceptual hash (16 x 16 lowest frequencies of the film at 64 px)."""
    found = np.empty((len(pixels), BITS), bool)
    for row, film in zip(found, pixels, strict=True):
        row[:] = imagehash.phash(Image.fromarray(np.asarray(film)), hash_size=HASH_SIDE).hash.ravel()
    return found


def pairs(bits: Flags) -> Iterator[tuple[Indices, Indices]]:
    """Rows i < j of films that look the same, as arrays, block by block."""
    signs = np.where(bits, 1, -1).astype(np.float32)
    least = BITS - 2 * LIMITS["perceptual_bits"]
    for top in range(0, len(bits), BLOCK):
        for left in range(top, len(bits), BLOCK):
            # of two rows of signs the product is the bits that agree less those that differ
            alike = signs[top : top + BLOCK] @ signs[left : left + BLOCK].T
            i, j = np.nonzero(alike >= least)
            i, j = i + top, j + left
            yield i[i < j], j[i < j]


def copies(bits: Flags, digests: tuple[str, ...], cuts: Parts) -> Copies:
    """Counts each pair once, however many splits it lies across; a pair of equal files is no near copy."""
    train, held = (_sides(cuts, side, len(bits)) for side in (0, 1))
    files = np.unique(np.array(digests), return_inverse=True)[1]
    counts = [0, 0]
    firsts: list[tuple[int, int] | None] = [None, None]
    for i, j in pairs(bits):
        across = ((train[i] & held[j]) | (held[i] & train[j])).any(axis=1)
        same = files[i] == files[j]
        for kind, some in enumerate((across & same, across & ~same)):
            counts[kind] += int(some.sum())
            if firsts[kind] is None and some.any():
                at = int(some.argmax())
                firsts[kind] = (int(i[at]), int(j[at]))
    return Copies(counts[0], counts[1], firsts[0], firsts[1])


def joined(manifest: Manifest, pixels: Bytes) -> Manifest:
    """The manifest with the groups of films that look the same made one, so that no split parts two copies."""
    names, group = np.unique(manifest.groups, return_inverse=True)
    one, other = (np.concatenate(side) for side in zip(*pairs(hashes(pixels)), strict=True))
    size = (len(names), len(names))
    edges = coo_array((np.ones(len(one), bool), (group[one], group[other])), shape=size)
    _, part = connected_components(edges, directed=False)
    _, first = np.unique(part, return_index=True)
    return replace(manifest, joined=tuple(str(names[first[part[g]]]) for g in group))


def _sides(cuts: Parts, side: int, n: int) -> Flags:
    """(n, cuts) whether a film is on that side of each split."""
    found = np.zeros((n, len(cuts)), bool)
    for k, cut in enumerate(cuts):
        found[cut[side], k] = True
    return found
