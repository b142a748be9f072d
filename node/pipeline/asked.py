"""What a person asks a pull for, as it is typed or stands in a list, and how it is kept with the pull."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from config.settings import Peer
from node.errors import PullError
from node.network.source import Found, Wanted
from node.pipeline.ahead import MOST
from node.pipeline.pacing import Pace, window_of
from node.storage import pulls
from node.storage.pulls import Pull
from node.storage.store import Store

COLUMNS = {
    "accession": "accession",
    "accessionnumber": "accession",
    "studyinstanceuid": "study",
    "studyuid": "study",
}
WILD = re.compile(r"[*?\\]")
UID = re.compile(r"[0-9]+(\.[0-9]+)+")
NAMES = 100
"""Names in one question of a pull: what was answered is remembered after each."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Rules:
    """How a pull goes about it; kept with it."""

    limit: int = 0
    per_minute: float = 0
    between: str = ""
    again: bool = False
    ahead: int = MOST
    """So many pulled studies may wait to be read until the next is brought; 0 is no limit."""
    keep_hours: float | None = None
    """So long images are kept after the last of a study came and it was read; None: as [retention] says."""

    @property
    def pace(self) -> Pace:
        return Pace(self.per_minute, window_of(self.between) if self.between else None)


def begin(
    store: Store, peer: Peer, wanted: Sequence[Wanted], rules: Rules, *, route: str = "", mode: str = "", now: float
) -> Pull:
    """Remember what is to be brought, before anything is asked."""
    asked = {"any": [asdict(one) for one in wanted]}
    return pulls.begin(store, peer.name, asked, asdict(rules), route=route, mode=mode, now=now)


def change(store: Store, pull: Pull, how: Mapping[str, Any]) -> Pull:
    """Go about a pull in another way from now on, where anything of `Rules` is given.

    Raises:
        PullError: it cannot be done so.
    """
    rules = Rules(**{**pull.rules, **how})
    _ = rules.pace
    if how:
        pulls.set_rules(store, pull.id, asdict(rules))
    return pulls.find(store, pull.id)


def wanted_of(store: Store, pull: Pull) -> list[Wanted]:
    """What a pull asks for, as `begin` was told."""
    kept: list[dict[str, Any]] = []
    for one in pulls.wanted(store, pull.id)["any"]:
        kept.append({key: tuple(value) if isinstance(value, list) else value for key, value in one.items()})
    return [Wanted(**one) for one in kept]


def questions_of(wanted: Sequence[Wanted]) -> list[Wanted]:
    """The same in small questions, always the same ones: some names each, or a month of Study Dates.

    Whoever dies while a hundred thousand names are asked for goes on where he was. And many a PACS answers no more than
    some hundred or thousand matches at a time.
    """
    return [question for one in wanted for question in _small(one)]


def _small(one: Wanted) -> Iterator[Wanted]:
    for key in ("study_instance_uids", "accession_numbers"):
        names: tuple[str, ...] = getattr(one, key)
        if len(names) > NAMES:
            yield from (_with(one, **{key: names[at : at + NAMES]}) for at in range(0, len(names), NAMES))
            return
    if one.since and one.until and not (one.study_instance_uids or one.accession_numbers or one.patient_ids):
        yield from (replace(one, since=first, until=last) for first, last in _months(one.since, one.until))
        return
    yield one


def _months(since: str, until: str) -> Iterator[tuple[str, str]]:
    """The days from one to the other, YYYYMMDD, month by month."""
    first, end = (datetime.strptime(day, "%Y%m%d") for day in (since, until))
    while first <= end:
        last = min((first.replace(day=1) + 31 * DAY).replace(day=1) - DAY, end)
        yield f"{first:%Y%m%d}", f"{last:%Y%m%d}"
        first = last + DAY


def missing_of(wanted: Sequence[Wanted], found: Mapping[str, Found]) -> list[str]:
    """What was asked for by name and is not there."""
    names = {*found, *(study.accession_number for study in found.values())}
    asked = [name for one in wanted for name in (*one.study_instance_uids, *one.accession_numbers)]
    return [name for name in asked if name not in names]


def wanted(
    *,
    since: str = "",
    until: str = "",
    modalities: Sequence[str] = (),
    accessions: Sequence[str] = (),
    studies: Sequence[str] = (),
    patients: Sequence[str] = (),
    listed: Path | None = None,
) -> list[Wanted]:
    """What to ask for: studies by UID, and studies by accession number, each within what else is given.

    Raises:
        PullError: naming the option or the line, and what is allowed.
    """
    first, last = _date("--since", since), _date("--until", until)
    if first and last and first > last:
        raise PullError(f"--since {since} is after --until {until}")
    more_accessions, more_studies = _listed(listed) if listed else ([], [])
    by_accession = [_exact("--accession", a) for a in (*accessions, *more_accessions)]
    by_uid = [_uid("--study", uid) for uid in (*studies, *more_studies)]
    rest = Wanted(
        since=first,
        until=last,
        modalities=tuple(_distinct(_modality(m) for given in modalities for m in given.split(","))),
        patient_ids=tuple(_distinct(_exact("--patient", p) for p in patients)),
    )
    found = []
    if by_uid:
        found.append(_with(rest, study_instance_uids=tuple(_distinct(by_uid))))
    if by_accession:
        found.append(_with(rest, accession_numbers=tuple(_distinct(by_accession))))
    if not found and rest == Wanted():
        raise PullError(
            "pull what? Give dates (--since, --until), --modality, --accession, --accessions FILE, --study or --patient"
        )
    return found or [rest]


def _with(rest: Wanted, **keys: tuple[str, ...]) -> Wanted:
    return Wanted(**(vars(rest) | keys))


def _date(option: str, text: str) -> str:
    """A day as DICOM writes it, YYYYMMDD; "" stays."""
    if not text:
        return ""
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text.strip(), form).strftime("%Y%m%d")
        except ValueError:
            continue
    raise PullError(f"{option} {text}: a day is written 2026-01-31 or 20260131")


def _modality(text: str) -> str:
    code = text.strip().upper()
    if not re.fullmatch(r"[A-Z0-9_ ]{1,16}", code):
        raise PullError(f"--modality {text}: codes such as CR,DX")
    return code


def _exact(option: str, text: str) -> str:
    value = text.strip()
    if not value or len(value) > 64 or WILD.search(value) or not value.isprintable():
        raise PullError(f"{option} {text!r}: 1 to 64 printable characters, without * ? and backslash")
    return value


def _uid(option: str, text: str) -> str:
    value = text.strip()
    if len(value) > 64 or not UID.fullmatch(value):
        raise PullError(f"{option} {text!r}: a Study Instance UID is digits and dots, at most 64")
    return value


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _listed(path: Path) -> tuple[list[str], list[str]]:
    """The accession numbers and UIDs of a CSV file whose first line names its columns; a row's UID goes first."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PullError(f"{path}: not UTF-8: save it as CSV UTF-8") from None
    except OSError as error:
        raise PullError(f"{path}: cannot be read: {error.strerror}") from None
    header = text.partition("\n")[0]
    delimiter = max(";\t,", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [re.sub(r"[\s_]", "", name).lower() for name in next(rows, [])]
    places = {kind: i for i, name in enumerate(names) if (kind := COLUMNS.get(name))}
    if not places:
        raise PullError(
            f"{path}: line 1 names no column accession, AccessionNumber or StudyInstanceUID (it is: {header.strip()!r})"
        )
    accessions, studies = [], []
    for row in rows:
        cell = {kind: row[i].strip() if i < len(row) else "" for kind, i in places.items()}
        where = f"{path}: line {rows.line_num}:"
        if cell.get("study"):
            studies.append(_uid(where, cell["study"]))
        elif cell.get("accession"):
            accessions.append(_exact(where, cell["accession"]))
        elif any(field.strip() for field in row):
            raise PullError(f"{where} has no {' and no '.join(places)}")
    if not accessions and not studies:
        raise PullError(f"{path}: names no study")
    return accessions, studies
