"""Coded concepts: what a label means and where it sits in the body.

One reviewed table, so that no code value is typed anywhere else. Sources stand beside the rows; codes of SNOMED CT
that are in no DICOM context group need a SNOMED licence or GPS check at the user's site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Code:
    """A coded concept as DICOM writes it (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Concept:
    """A finding and the site in which it is found."""

    finding: Code
    site: Code


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


CHEST = _sct("816094009", "Chest")
ABDOMEN = _sct("818981001", "Abdomen")
HAND = _sct("85562004", "Hand")
HEAD = _sct("69536005", "Head")
BREAST = _sct("76752008", "Breast")
SOMETHING = _sct("91723000", "Anatomical structure")

# PS3.16 CID 240 Present-Absent
PRESENT = _sct("52101004", "Present")
ABSENT = _sct("272519000", "Absent")
UNDETERMINED = _sct("373068000", "Undetermined")

LUNG = _sct("39607008", "Lung")
HEART = _sct("80891009", "Heart")
PLEURA = _sct("3120008", "Pleura")
DIAPHRAGM = _sct("5798000", "Diaphragm")

PRIVATE_SCHEME = "99OVERREAD"
"""For a concept whose standard code could not be verified (PS3.16 section 8: private designators begin with 99)."""

FINDINGS: Mapping[str, Concept] = MappingProxyType(
    {
        "Atelectasis": Concept(_sct("46621007", "Atelectasis"), LUNG),
        # 287272002, which CID 12248 lists, is the fetal finding
        "Cardiomegaly": Concept(_sct("8186001", "Cardiomegaly"), HEART),
        "Effusion": Concept(_sct("60046008", "Pleural effusion"), PLEURA),  # CID 645
        "Infiltration": Concept(Code("112121", "DCM", "Infiltrate"), LUNG),  # CID 6102
        "Mass": Concept(_sct("309529002", "Lung mass"), LUNG),
        "Nodule": Concept(_sct("786838002", "Nodule of lung"), LUNG),
        "Pneumonia": Concept(_sct("233604007", "Pneumonia"), LUNG),
        "Pneumothorax": Concept(_sct("36118008", "Pneumothorax"), PLEURA),  # CID 6102
        "Consolidation": Concept(_sct("95436008", "Lung consolidation"), LUNG),
        "Edema": Concept(_sct("19242006", "Pulmonary edema"), LUNG),  # CID 3700
        "Emphysema": Concept(_sct("87433001", "Pulmonary emphysema"), LUNG),
        "Fibrosis": Concept(_sct("51615001", "Fibrosis of lung"), LUNG),
        # no SNOMED CT code that could be verified
        "Pleural_Thickening": Concept(Code("PLEURAL_THICK", PRIVATE_SCHEME, "Pleural thickening"), PLEURA),
        "Hernia": Concept(_sct("39839004", "Diaphragmatic hernia"), DIAPHRAGM),
        # a radiographic pattern only: no chest film diagnoses COVID-19, and the results must say so
        "COVID-19": Concept(_sct("840539006", "COVID-19"), LUNG),
    }
)

TRIAGE: Mapping[str, Concept] = MappingProxyType(
    {"Abnormal": Concept(_sct("408574004", "Imaging result abnormal"), CHEST)}
)

BODY_PARTS: Mapping[str, Concept] = MappingProxyType(
    {
        "chest": Concept(CHEST, CHEST),
        "abdomen": Concept(ABDOMEN, ABDOMEN),
        "hand": Concept(HAND, HAND),
        "CT head": Concept(HEAD, HEAD),
        "CT chest": Concept(CHEST, CHEST),
        "CT abdomen": Concept(ABDOMEN, ABDOMEN),
        "MR breast": Concept(BREAST, BREAST),
        # turned, inverted or cut films, and nothing at all: what no model should read
        "other": Concept(SOMETHING, SOMETHING),
    }
)
"""Radiographs of the chest, abdomen and hand; slices of CT and MR."""
