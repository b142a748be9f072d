"""One finding on films of your own, against films labelled No Finding: any folder that `training/sources/` reads, or
what a node has received.

    overread-train fit one_finding --set finding=Pneumothorax --data FOLDER --weights FILE --out runs

FOLDER may be the data folder of a node with a labels.csv in it (accession_number or sop_instance_uid, label).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.codes import FINDINGS
from training import sources
from training.accepted import NOT_ON_PATIENTS
from training.errors import SourceError
from training.manifest import NO_FINDING, Manifest, findings
from training.recipe import Choices
from training.recipes.chest_findings import RECIPE as SHIPPED


def manifest(data: Path, choices: Choices, _work: Path) -> Manifest:
    """Films that bear the finding or none at all."""
    label = choices["finding"]
    items = sources.SOURCES[sources.detect(data)](data)
    have = sorted({name for item in items for name in item.labels})
    for needed in (label, NO_FINDING):
        if needed not in have:
            raise SourceError(f"{data}: no film is labelled {needed}, spelled so (have: {', '.join(have)})")
    return findings((label,), [item for item in items if label in item.labels or item.labels == {NO_FINDING}])


RECIPE = replace(
    SHIPPED,
    name="finding",
    kind="binary",
    concepts=lambda choices: {choices["finding"]: FINDINGS[choices["finding"]]},
    manifest=manifest,
    open={"finding": tuple(FINDINGS)},
    asked=("finding",),
    not_for=f"{NOT_ON_PATIENTS} A film without this finding is no normal film.",
    intended_use="Shows one finding on frontal chest films. Research use only.",
    data_note="Films and labels of whoever trained it.",
)
