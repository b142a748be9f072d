"""Chest films of children aged one to five, normal or with pneumonia (Kermany et al., Cell 2018).

Patient and cause stand in the file names only. Reads names, never pixels.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.errors import SourceError
from training.manifest import NO_FINDING, Item
from training.sources.class_folders import class_of, pictures

LABELS = {"NORMAL": NO_FINDING, "PNEUMONIA": "Pneumonia"}
CAUSES = {"bacteria": "Bacterial", "virus": "Viral"}
PERSON = re.compile(r"(?P<patient>person\d+)_(?P<cause>bacteria|virus)_\d+")
NUMBERED = re.compile(r"(?P<patient>(?:(?:NORMAL2-)?IM|NORMAL|(?P<cause>BACTERIA|VIRUS))-\d+(?:-\d+)*)-\d+")
"""The last number counts a patient's films."""


def pediatric_pneumonia(folder: Path) -> list[Item]:
    """`pediatric_pneumonia`, or the original download: NORMAL/ and PNEUMONIA/, also below train/, val/ and test/.

    Labels are "No Finding", or "Pneumonia" with "Bacterial" or "Viral". The source's split is not kept: it shares
    patients. Bacterial and viral persons of one number are held to be one patient.

    Raises:
        SourceError: no image, another class folder, or a name that says no patient.
    """
    items = []
    for path in pictures(folder):
        name = class_of(path, folder)
        if name not in LABELS:
            raise SourceError(f"{path}: the class folder {name} is not one of {', '.join(LABELS)}")
        said = PERSON.fullmatch(path.stem) or NUMBERED.fullmatch(path.stem)
        if said is None:
            raise SourceError(f"{path}: the name says no patient; person1_virus_2 or IM-0001-0001 are such names")
        labels = {LABELS[name]}
        if said["cause"]:
            labels.add(CAUSES[said["cause"].lower()])
        items.append(Item(path, "pediatric_pneumonia", frozenset(labels), patient=said["patient"]))
    return items
