"""What was found, as a table for researchers: `COLUMNS`, one row for each study, job and label, or for each image too.

A study in which nothing was found, or that nothing was said of, has a row as well: silence is not normal. Rows are made
one after the other and never held; without `identified` they say who the patient is by a keyed hash alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import IO, Any

from models.bundle import Bundle, BundleError, Label
from models.findings import Presence
from models.registry import Registry
from node.domain import Job, JobState, State, Study, StudyState
from node.storage.readings import Account, Looked, Read

COLUMNS: Mapping[str, str] = {
    "study": "row of the study in this node",
    "study_instance_uid": "Study Instance UID",
    "accession_number": "Accession Number",
    "patient": "keyed hash of the patient, the same in every export of this node; Patient ID with --identified",
    "study_date": "Study Date, YYYY-MM-DD; only with --identified",
    "route": "the route that read the study, or that is asked about",
    "mode": "live or shadow",
    "series_instance_uid": "the one series that was read, where a route goes by series",
    "revision": "the study's revision that was read",
    "bundle": "name@version of the model",
    "model_digest": "digest of the model's files",
    "status": "what became of it, see below",
    "reason": "why, where nothing was found out",
    "images": "images that were looked at",
    "images_analysed": "images that the model read",
    "sop_instance_uid": "the image, in rows of --images; of a row of a study, the image with this score",
    "frame": "its frame, from 1",
    "label": "the model's name of the finding",
    "concept": "its code: value^scheme^meaning",
    "score": "0 to 1; of a study the highest of its images",
    "calibrated": "1 where the score is a probability, 0 where not",
    "threshold": "present from this score on",
    "lower": "absent below this score",
    "operating_point": "how the threshold was chosen",
    "presence": "PRESENT, ABSENT or UNDETERMINED",
    "received_at": "when the study's last image was received, UTC",
    "settled_at": "when the study counted as complete, UTC",
    "finished_at": "when the job ended, UTC",
}
"""Every column and what stands in it; empty where there is nothing to say, or where the model is not here any more."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for a formula when a cell begins with it (CWE-1236)."""

Row = dict[str, Any]


class Ending(State):
    ANALYSED = "ANALYSED", "The model read at least one image; of a row of --images, this one."
    REFUSED = "REFUSED", "The model read no image (this image), for the reason that is given."
    FAILED = "FAILED", "This image could not be read."
    WAITING = "WAITING", "Not finished yet."
    DEAD = "DEAD", "Given up, for the reason that is given."
    WITHDRAWN = "WITHDRAWN", "A person took the results back; they must not be used."
    UNROUTED = "UNROUTED", "No route, or not this route, took the study."
    HELD = "HELD", "Its images contradict each other; a person must decide, and until then nothing is told."


@dataclass(frozen=True)
class Meant:
    """What a label's score means: by the bundle that it came from."""

    label: Label
    calibrated: bool


Labels = Callable[[Job], Mapping[str, Meant]]


@dataclass(frozen=True)
class Wish:
    """What a table is to hold."""

    images: bool = False
    identified: bool = False


def rows(accounts: Iterable[Account], labels: Labels, wish: Wish) -> Iterator[Row]:
    """The table, row by row, each with all of `COLUMNS`."""
    for one in accounts:
        common = dict.fromkeys(COLUMNS, None) | _of_study(one, wish)
        ending, reason = _ending(one)
        common |= {"status": ending.value, "reason": reason}
        if one.read is None or ending not in (Ending.ANALYSED, Ending.REFUSED):
            yield common
            continue
        known = labels(one.read.job)
        made = _by_image(one.read, known) if wish.images else _by_label(one.read, known)
        yield from (common | row for row in made)


def labels_in(registry: Registry) -> Labels:
    """The labels of the very bundle that a job was run with; none where it is not here."""
    known: dict[tuple[str, str], Mapping[str, Meant]] = {}

    def find(job: Job) -> Mapping[str, Meant]:
        key = job.bundle, str((job.ran_with or {}).get("bundle_digest", ""))
        if key not in known:
            bundle = _exactly(registry, *key)
            calibrated = bool(bundle and bundle.spec.calibration.method != "none")
            known[key] = {x.name: Meant(x, calibrated) for x in bundle.spec.labels} if bundle else {}
        return known[key]

    return find


def _exactly(registry: Registry, ref: str, digest: str) -> Bundle | None:
    try:
        found = registry.find(ref)
    except BundleError:
        return None
    return found if found.digest == digest else None


def write_csv(table: Iterable[Row], file: IO[str], *, columns: Iterable[str] = COLUMNS) -> int:
    """Comma separated, as RFC 4180 has it, with a line of names; how many rows there were."""
    names = tuple(columns)
    writer = csv.writer(file)
    writer.writerow(names)
    n = 0
    for n, row in enumerate(table, start=1):  # noqa: B007
        writer.writerow([_cell(row[name]) for name in names])
    return n


def write_jsonl(table: Iterable[Row], file: IO[str]) -> int:
    """One JSON object a line; how many there were."""
    n = 0
    for n, row in enumerate(table, start=1):  # noqa: B007
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return n


def _cell(value: Any) -> str:
    """A number as it is; a text that a spreadsheet would run gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


def _of_study(one: Account, wish: Wish) -> Row:
    study, read = one.study, one.read
    row: Row = {
        "study": study.id,
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "patient": study.patient_id if wish.identified else one.patient,
        "study_date": _date(one.study_date) if wish.identified else None,
        "route": one.route or None,
        "revision": study.revision,
        "received_at": _moment(study.last_received_at),
        "settled_at": _moment(study.settled_at),
    }
    if read is None:
        return row
    job = read.job
    seen = {(one.sop_instance_uid, one.row.frame): one.row.status for one in read.looked}
    return row | {
        "mode": "live" if read.live else "shadow",
        "series_instance_uid": job.series_instance_uid or None,
        "revision": job.revision,
        "bundle": job.bundle,
        "model_digest": (job.ran_with or {}).get("bundle_digest"),
        "images": len(seen),
        "images_analysed": sum(status == "analysed" for status in seen.values()),
        "finished_at": _moment(job.finished_at),
    }


def _ending(one: Account) -> tuple[Ending, str]:
    """What became of a study, or of one of its jobs, and why."""
    if one.study.state is StudyState.HELD:
        # what contradicts what names the patient
        return Ending.HELD, "its instances contradict each other: `overread held list` says in what"
    if one.read is None:
        return _without_a_job(one.study, one.reason)
    read, job = one.read, one.read.job
    if read.withdrawn or (read.stopped and job.state is JobState.DEAD):
        return Ending.WITHDRAWN, job.reason or "its results were withdrawn"
    match job.state:
        case JobState.DONE:
            return Ending.ANALYSED, job.reason
        case JobState.REFUSED:
            return Ending.REFUSED, job.reason
        case JobState.DEAD:
            return Ending.DEAD, job.reason
    return Ending.WAITING, f"the job is {job.state}"


def _without_a_job(study: Study, reason: str) -> tuple[Ending, str]:
    if study.state in (StudyState.RECEIVING, StudyState.SETTLED):
        return Ending.WAITING, f"the study is {study.state}"
    return Ending.UNROUTED, reason or study.reason or "this route was never asked about it"


def _by_label(read: Read, known: Mapping[str, Meant]) -> Iterator[Row]:
    """One row for each label, with the highest score of the images; a single one where there is none."""
    found = [one for one in read.looked if one.row.label]
    names = list(dict.fromkeys(one.row.label for one in found))
    for name in names:
        mine = [one for one in found if one.row.label == name]
        highest = max(mine, key=lambda one: -1.0 if one.row.score is None else one.row.score)
        presence = highest.row.presence
        if presence == Presence.ABSENT and any(one.row.score is None for one in mine):
            presence = Presence.UNDETERMINED.value  # as the report has it: an image without a score may hide it
        yield _finding(highest, known) | {"presence": presence}
    if not names:
        yield {}


def _by_image(read: Read, known: Mapping[str, Meant]) -> Iterator[Row]:
    """One row for each image and label, and one for an image that was not analysed."""
    for (uid, frame), same in groupby(read.looked, key=lambda one: (one.sop_instance_uid, one.row.frame)):
        for one in same:
            row = _finding(one, known) if one.row.label else {}
            ending = Ending(one.row.status.upper())
            about = {"sop_instance_uid": uid, "frame": frame, "status": ending.value, "reason": one.row.reason}
            yield row | about


def _finding(one: Looked, known: Mapping[str, Meant]) -> Row:
    row, meant = one.row, known.get(one.row.label)
    found: Row = {
        "sop_instance_uid": one.sop_instance_uid,
        "frame": row.frame,
        "label": row.label,
        "score": None if row.score is None or not math.isfinite(row.score) else row.score,
        "presence": row.presence or None,
    }
    if meant is None:
        return found
    label, code = meant.label, meant.label.finding
    return found | {
        "concept": f"{code.value}^{code.scheme}^{code.meaning}",
        "calibrated": meant.calibrated,
        "threshold": label.threshold,
        "lower": label.lower,
        "operating_point": label.operating_point,
    }


def _moment(seconds: float | None) -> str | None:
    """ISO 8601, UTC, to the millisecond."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _date(text: str) -> str | None:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdecimal() else None
