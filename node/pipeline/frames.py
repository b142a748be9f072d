"""Frames: which images of a CT or MR series are read, and the sentence that says so.

A series is put into the order of its slices in the patient, and the middle one or every n-th is taken; a multi-frame
object counts as its frames. Looks at headers only, and the same series always gives the same choice.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from models.decode import PARSER_ERRORS
from models.enhanced import GROUPS, of_frame
from node.domain import Choice, Instance

KEYWORDS = (
    "ImageType",
    "InstanceNumber",
    "SeriesNumber",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    *GROUPS,
)
MOST = 20_000
"""Frames of one object; a header that claims more is not believed."""
PARALLEL = 0.99
"""Least cosine between the normals of slices that are one stack."""
APART = 0.01
"""Millimetres; slices nearer to each other than that are at one position."""

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Chosen:
    """What is read of each series, and why images that matched are not (by instance id)."""

    choices: tuple[Choice, ...]
    left_out: Mapping[int, str]

    @property
    def sentence(self) -> str:
        """One sentence about each series, and about what was left out as a whole."""
        reasons = Counter(reason for reason in self.left_out.values() if reason != NOT_CHOSEN)
        said = [f"{choice.name}: {choice.sentence}" for choice in self.choices]
        return "; ".join([*said, *(f"{n} left out: {reason}" for reason, n in reasons.items())])


NOT_CHOSEN = "matches, but other images of its series are read"
LOCALISER = "a localiser"
UNBELIEVED = f"it claims to hold more than {MOST} frames"


@dataclass(frozen=True)
class _Slice:
    """One image of a series, single or a frame of a multi-frame object."""

    uid: str
    frame: int
    instance_number: int | None
    position: Vector | None
    normal: Vector | None


def choose(
    policy: str, members: Sequence[Instance], headers: Mapping[int, Dataset], *, gone: Sequence[Instance] = ()
) -> Chosen:
    """Choose by `policy`, "middle" or "every:n", from each series of the members.

    Args:
        policy: as the settings have it.
        members: the instances that the route takes.
        headers: by instance id, with at least `KEYWORDS`.
        gone: images of the study whose files are not there any more; those of a series are counted in its sentence.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's quote the values that they complain about
        return _chosen(policy, members, headers, gone)


def _chosen(
    policy: str, members: Sequence[Instance], headers: Mapping[int, Dataset], gone: Sequence[Instance]
) -> Chosen:
    choices: list[Choice] = []
    left_out: dict[int, str] = {}
    by_series: dict[str, list[Instance]] = {}
    for member in members:
        reason = _unfit(headers[member.id])
        if reason:
            left_out[member.id] = reason
        else:
            by_series.setdefault(member.series_instance_uid, []).append(member)
    for series, images in sorted(by_series.items(), key=lambda item: _place(item[0], item[1], headers)):
        missing = sum(1 for instance in gone if instance.series_instance_uid == series)
        choice = _of_series(policy, images, headers, missing)
        choices.append(choice)
        left_out.update({m.id: NOT_CHOSEN for m in images if m.sop_instance_uid not in choice.frames})
    return Chosen(tuple(choices), left_out)


def _unfit(header: Dataset) -> str:
    # PS3.3 C.7.6.1.1.2 and C.8.2.1.1.1: value 3 of Image Type; some devices write it further behind
    if any(str(value).strip().upper() in ("LOCALIZER", "SCOUT") for value in _values(header, "ImageType")):
        return LOCALISER
    return UNBELIEVED if _frames(header) > MOST else ""


def _place(series: str, images: Sequence[Instance], headers: Mapping[int, Dataset]) -> tuple[int, str]:
    return _integer(headers[images[0].id], "SeriesNumber") or 0, series


def _of_series(policy: str, images: Sequence[Instance], headers: Mapping[int, Dataset], missing: int) -> Choice:
    slices, by = _ordered([s for image in images for s in _slices(image, headers[image.id])])
    taken = [slices[len(slices) // 2]] if policy == "middle" else slices[:: int(policy.removeprefix("every:"))]
    frames: dict[str, list[int]] = {}
    for one in taken:
        frames.setdefault(one.uid, []).append(one.frame)
    series_number = _integer(headers[images[0].id], "SeriesNumber")
    series = images[0].series_instance_uid
    sentence = _said(taken, slices, len(images)) + (f", in the order of {by}" if len(slices) > 1 else "") + "."
    if missing:
        sentence += f" {missing} more of the series are not on the node any more."
    return Choice(
        series_instance_uid=series,
        name=f"series {series if series_number is None else series_number}",
        frames={uid: tuple(sorted(numbers)) for uid, numbers in frames.items()},
        sentence=sentence,
    )


def _slices(instance: Instance, header: Dataset) -> Iterator[_Slice]:
    instance_number = _integer(header, "InstanceNumber")
    for index in range(_frames(header)):
        single = of_frame(header, index)
        orientation = _vector(single, "ImageOrientationPatient", 6)
        yield _Slice(
            uid=instance.sop_instance_uid,
            frame=index + 1,
            instance_number=instance_number,
            position=_vector(single, "ImagePositionPatient", 3),
            normal=_normal(orientation) if orientation else None,
        )


def _ordered(slices: Sequence[_Slice]) -> tuple[list[_Slice], str]:
    """The slices in order, and by what: their positions along the normal of the stack, where it is one."""
    along = _along_normal(slices)
    if along:
        order = sorted(range(len(slices)), key=lambda i: (along[i], slices[i].instance_number or 0, *_names(slices[i])))
        return [slices[i] for i in order], "their positions"
    if len({s.uid for s in slices}) == 1:
        return list(slices), "their numbers"
    if all(s.instance_number is not None for s in slices):
        return sorted(slices, key=lambda s: (s.instance_number or 0, *_names(s))), "their instance numbers"
    return sorted(slices, key=_names), "their SOP Instance UIDs"


def _names(one: _Slice) -> tuple[str, int]:
    return one.uid, one.frame


def _along_normal(slices: Sequence[_Slice]) -> list[float]:
    """Where each slice is along their common normal, in steps of `APART`; nothing where they are no one stack."""
    first = slices[0].normal
    if first is None:
        return []
    along = []
    for one in slices:
        if one.normal is None or one.position is None or _dot(one.normal, first) < PARALLEL:
            return []
        along.append(round(_dot(one.position, first) / APART))
    return [float(step) for step in along] if len(set(along)) > 1 else []


def _normal(orientation: Vector) -> Vector | None:
    """The unit vector across a slice, from the directions of its rows and columns (PS3.3 C.7.6.2.1.1)."""
    ax, ay, az, bx, by, bz = orientation
    across = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    length = math.sqrt(_dot(across, across))
    return tuple(v / length for v in across) if length > 0.5 else None


def _dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _said(taken: Sequence[_Slice], slices: Sequence[_Slice], objects: int) -> str:
    if objects == len(slices):
        named = _numbered("instance number", taken)
        return f"Read {len(taken)} of {len(slices)} images of this series: {named}"
    if objects == 1:
        frames = ", ".join(str(one.frame) for one in taken)
        return f"Read {'frame' if len(taken) == 1 else 'frames'} {frames} of {len(slices)} of this series"
    by_object: dict[str, list[_Slice]] = {}
    for one in taken:
        by_object.setdefault(one.uid, []).append(one)
    named = "; ".join(
        f"{_numbered('instance number', same[:1])} frames {', '.join(str(one.frame) for one in same)}"
        for same in by_object.values()
    )
    return f"Read {len(taken)} of {len(slices)} frames of this series: {named}"


def _numbered(noun: str, taken: Sequence[_Slice]) -> str:
    """The images by their instance numbers; by their UIDs where one has none."""
    if any(one.instance_number is None for one in taken):
        return f"SOP Instance {'UID' if len(taken) == 1 else 'UIDs'} {', '.join(one.uid for one in taken)}"
    return f"{noun}{'' if len(taken) == 1 else 's'} {', '.join(str(one.instance_number) for one in taken)}"


def _frames(header: Dataset) -> int:
    return max(_integer(header, "NumberOfFrames") or 1, 1)


def _values(header: Dataset, keyword: str) -> list[object]:
    try:
        value = header.get(keyword)
    except PARSER_ERRORS:
        return []
    return [] if value is None else [value] if isinstance(value, str | int | float) else list(value)


def _integer(header: Dataset, keyword: str) -> int | None:
    try:
        return int(str(header.get(keyword)))
    except (*PARSER_ERRORS, ValueError):
        return None


def _vector(header: Dataset, keyword: str, size: int) -> Vector | None:
    try:
        found = tuple(float(str(value)) for value in _values(header, keyword))
    except ValueError:
        return None
    return found if len(found) == size and all(math.isfinite(v) for v in found) else None
