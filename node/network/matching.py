"""What is looked for, as single questions that every service understands, and held against what it answers.

Services differ in what they match by (lists, wildcards, attributes that they ignore in silence); so each question has
one value for each key, and no answer is believed to match.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from node.network.source import Found, Wanted

KEYS = ("AccessionNumber", "ModalitiesInStudy", "PatientID", "StudyDate", "StudyInstanceUID")
"""What a question may be asked by."""


def questions(wanted: Wanted) -> Iterator[dict[str, str]]:
    """Attributes by keyword, with one value each; a study may answer several questions."""
    keys = {
        "ModalitiesInStudy": wanted.modalities,
        "AccessionNumber": wanted.accession_numbers,
        "PatientID": wanted.patient_ids,
        "StudyInstanceUID": wanted.study_instance_uids,
    }
    asked = {keyword: values for keyword, values in keys.items() if values}
    dates = f"{wanted.since}-{wanted.until}"  # PS3.4 C.2.2.2.5
    for values in product(*asked.values()):
        yield dict(zip(asked, values, strict=True)) | ({"StudyDate": dates} if dates != "-" else {})


def is_wanted(wanted: Wanted, found: Found, patient_id: str) -> bool:
    """Whether a study is one that is looked for. Without a date it is in no range of dates; modalities that were not
    told are not held against it."""
    return (
        _among(found.study_instance_uid, wanted.study_instance_uids)
        and _among(found.accession_number, wanted.accession_numbers)
        and _among(patient_id, wanted.patient_ids)
        and (not wanted.since or found.study_date >= wanted.since)
        and (not wanted.until or "" < found.study_date <= wanted.until)
        and (not wanted.modalities or not found.modalities or bool(set(wanted.modalities) & set(found.modalities)))
    )


def _among(value: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or value in wanted
