"""What identifies a patient, found again in words that must not hold it.

A word that would be there for anybody proves nothing: a patient may be called Lung, and have the number 83. So a text
is held against the same text of nobody in particular. Says which attribute was found, never its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pydicom.dataset import Dataset

from node.results.evidence import PATIENT, STUDY, TYPE_2, Evidence, Subject
from node.results.header import UNPAIRED
from node.results.library import MODALITIES

# PS3.16 Annex L: body parts of which there are two; with those in UNPAIRED what a header's codes may say of anybody.
PAIRED = frozenset(
    "ANKLE ARM BREAST CALF CLAVICLE ELBOW EXTREMITY EYE FEMUR FINGER FOOT FOREARM HAND HIP HUMERUS KNEE LEG LUNG ORBIT "
    "PAROTID PATELLA RADIUS RIB RIBS SCAPULA SHOULDER SIJOINT THIGH THUMB TIBIA TMJ TOE ULNA WRIST ZYGOMA".split()
)
ANYBODYS = frozenset(
    {
        *UNPAIRED,
        *PAIRED,
        *MODALITIES,
        "AP",
        "PA",
        "LL",
        "RL",
        "LAO",
        "RAO",
        "LATERAL",
        "MONOCHROME1",
        "MONOCHROME2",
        "RGB",
    }
)
QUOTED = ("Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation")
WORDS = re.compile(r"\w+")
SHORTEST = 2


def found(texts: Iterable[str], subject: Subject, *, anybodys: Callable[[], Iterable[str]]) -> list[str]:
    """The attributes of the patient whose values stand in these texts, by keyword.

    Args:
        texts: all words of one object.
        subject: the job, whose images say who the patient is.
        anybodys: the words of the same object, made of `anybody(subject)`; asked only when there is a doubt.
    """
    said = _plain(" \n ".join(texts))
    doubts = {pair: n for image in subject.images for pair in _of(image.source) if (n := _count(said, pair[1]))}
    if not doubts:
        return []
    innocent = _plain(" \n ".join(anybodys()))
    return sorted({keyword for (keyword, word), n in doubts.items() if n > _count(innocent, word)})


def anybody(subject: Subject) -> Subject:
    """The same job of a patient of whom nothing is known."""
    return replace(subject, images=tuple(map(_nobodys, subject.images)))


def _nobodys(image: Evidence) -> Evidence:
    source = Dataset({elem.tag: elem for elem in image.source if elem.keyword not in (*PATIENT, *STUDY)})
    for keyword in TYPE_2:
        setattr(source, keyword, "")
    source.StudyInstanceUID = image.source.StudyInstanceUID
    reason = image.reading.reason
    # A sentence may quote a code of the header, where somebody may have typed a name
    said = [str(image.source.get(keyword) or "") for keyword in QUOTED]
    if image.frame is not None:
        about = image.frame.header
        said += [about.modality, about.body_part, about.view_position, about.presentation_intent, about.photometric]
    for value in said:
        if len(value) >= SHORTEST and value.upper() not in ANYBODYS:
            reason = re.sub(re.escape(value), " ", reason, flags=re.IGNORECASE)
    if str(source.get("Modality", "")) not in MODALITIES:
        source.Modality = ""
    return replace(image, source=source, reading=replace(image.reading, reason=reason))


def _of(source: Dataset) -> Iterator[tuple[str, str]]:
    """Keyword and plain words of everything that names the patient or the order."""
    for keyword in ("PatientName", "OtherPatientNames"):
        for part in re.split(r"[\s^=\\,]+", str(source.get(keyword) or "")):
            yield from _worth(keyword, part)
    others = [item.get("PatientID") for item in source.get("OtherPatientIDsSequence", [])]
    for value in (source.get("PatientID"), *others):
        yield from _worth("PatientID", str(value or ""))
    yield from _worth("AccessionNumber", str(source.get("AccessionNumber") or ""))
    born = str(source.get("PatientBirthDate") or "")
    if len(born) == 8 and born.isdigit():
        year, month, day = born[:4], born[4:6], born[6:]
        written = (born, f"{year} {month} {day}", f"{day} {month} {year}", f"{month} {day} {year}")
        short = (f"{int(day)} {int(month)} {year}", f"{int(month)} {int(day)} {year}")
        yield from (("PatientBirthDate", form) for form in (*written, *short))


def _worth(keyword: str, value: str) -> Iterator[tuple[str, str]]:
    plain = _plain(value).strip()
    # One letter is an initial and is everywhere; one sign of another script may be a whole name
    if len(plain) >= SHORTEST or (plain and not plain.isascii()):
        yield keyword, plain


def _plain(text: str) -> str:
    """Words in lower case, parted by single spaces: how they are written does not matter."""
    return f" {' '.join(WORDS.findall(text.casefold()))} "


def _count(said: str, word: str) -> int:
    # Scripts without spaces have no borders of words
    return said.count(f" {word} ") if word.isascii() else said.count(word)
