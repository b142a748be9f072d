"""Result objects of patients who do not exist, made by the node's own builders, to describe what it makes.

The same job is made several times, with one thing changed each time: what changes with it comes from it. Nothing here
is kept or sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
)

from config.settings import Route, Settings
from models.bundle import Bundle
from models.findings import Finding, Presence, Reading
from models.pixels import Frame, Header
from node.pipeline.report import BUILDERS, body_part
from node.results import withdrawal
from node.results.evidence import TYPE_2, Device, Evidence, Model, Predecessor, Subject

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SIDE = 64
FIRST = 1


@dataclass(frozen=True)
class Specimens:
    """One kind of object, made of different jobs. `images` is the header that `of_one` was made from."""

    kind: str
    image: Dataset
    of_one: Dataset
    of_another_patient: Dataset
    of_another_node: Dataset
    of_another_model: Dataset
    of_a_bare_header: Dataset


def specimens(settings: Settings, bundle: Bundle) -> list[Specimens]:
    """An object of each kind that the routes make, and of the withdrawal."""
    kinds: set[str] = {kind for route in settings.route for kind in route.results}
    one, another, bare = _header("Aa^Bb", 1), _header("Cc^Dd", 2), _bare()
    here = Device(settings.node.ae_title, settings.node.organisation or "Somewhere", "0" * 12, "1")
    there = replace(here, ae_title="ELSEWHERE", organisation="Elsewhere", serial="1" * 12)
    model = _model(bundle)
    other_model = replace(model, name="other", version="9.9.9", digest="other", manufacturer="Somebody else")
    made = [
        _made(_subject(header, bundle, device=device, model=which), kinds)
        for header, device, which in (
            (one, here, model),
            (another, here, model),
            (one, there, model),
            (one, here, other_model),
            (bare, here, model),
        )
    ]
    return [Specimens(kind, one, *(objects[kind] for objects in made)) for kind in made[0]]


def _made(subject: Subject, kinds: set[str]) -> Mapping[str, Dataset]:
    route = Route(name="any", bundle="any", results=["sr", "sc", "gsps", "kos", "pdf"], mode="shadow")
    made: dict[str, list[Dataset]] = {}
    for kind, builder in BUILDERS.items():
        if kind in kinds:
            made[kind] = [draft.ds for draft in builder(subject, route, made)]
    number = int(subject.source.SeriesNumber)
    # Of the first job the first, of others the last: what one object has, another need not have
    found = {kind: objects[0 if number == FIRST else -1] for kind, objects in made.items()}
    if found:
        objects = [
            withdrawal.Withdrawn(str(ds.SeriesInstanceUID), str(ds.SOPClassUID), str(ds.SOPInstanceUID), kind)
            for kind, ds in found.items()
        ]
        about = withdrawal.subject_of(
            subject.source,
            objects,
            device=subject.device,
            model=subject.model,
            revision=1,
            route=subject.route,
            when=subject.when,
        )
        found["withdrawal"] = withdrawal.build(about, number)
    return found


def _model(bundle: Bundle) -> Model:
    spec = bundle.spec
    return Model(
        name=spec.name,
        version=spec.version,
        digest=bundle.digest,
        manufacturer=spec.trained_by,
        settings_digest="",
        family=spec.family,
        body_part=body_part(bundle),
        audit_note="What the audit said",
    )


def _subject(header: Dataset, bundle: Bundle, *, device: Device, model: Model) -> Subject:
    """The study of that header: two images that were analysed and, reported for the second time, one that was not."""
    number = int(header.SeriesNumber)
    images = [_numbered(header, n) for n in (1, 2, 3)]
    readings = [_analysed(bundle, number, 0.9), _analysed(bundle, number, 0.8)]
    readings += [Reading("refused", "gate", "What the gate said")] * (number == FIRST)
    frame = Frame(np.zeros((header.Rows, header.Columns), np.float32), Header(rows=header.Rows, columns=header.Columns))
    study = str(header.StudyInstanceUID)
    return Subject(
        device=device,
        model=model,
        images=tuple(
            Evidence(ds, f"digest {n}", reading, frame)
            for n, (ds, reading) in enumerate(zip(images, readings, strict=False))
        ),
        revision=2 if number == FIRST else 1,
        when=WHEN + timedelta(days=number, seconds=number),
        route="any",
        shadow=False,
        predecessors=(Predecessor(study, f"{study}.8", Comprehensive3DSRStorage, f"{study}.8.1"),) * (number == FIRST),
    )


def _analysed(bundle: Bundle, number: int, highest: float) -> Reading:
    """One label is present, the next undetermined, the others absent; each number begins with another."""
    presences = [Presence.PRESENT, Presence.UNDETERMINED]
    labels = [*bundle.spec.labels[number - 1 :], *bundle.spec.labels[: number - 1]]
    found = tuple(
        Finding(
            label.name,
            label.finding.code,
            label.site.code,
            highest / (n + 1),
            bundle.spec.calibration.method != "none",
            label.threshold,
            label.lower,
            presences[n] if n < len(presences) else Presence.ABSENT,
            label.operating_point,
        )
        for n, label in enumerate(labels)
    )
    heat = {f.label: np.eye(2 * number, dtype=np.float32) for f in found}
    return Reading("analysed", findings=found, gate={"chest": 0.9}, gate_bundle="gate", saliency=heat)


def _header(name: str, number: int) -> Dataset:
    """A film's header in which every value is this patient's alone."""
    ds = _bare(number)
    ds.PatientName, ds.PatientID = name, f"P{number}"
    ds.PatientBirthDate, ds.PatientSex = f"1970010{number}", "FMO"[number - 1]
    ds.IssuerOfPatientID, ds.PatientAge, ds.PatientComments = f"Issuer {number}", f"03{number}Y", f"Comment {number}"
    ds.StudyDate, ds.StudyTime, ds.StudyID = f"2026010{number}", f"10000{number}", f"S{number}"
    ds.AccessionNumber, ds.ReferringPhysicianName = f"A{number}", f"Ee^Ff{number}"
    ds.StudyDescription = f"Study {number}"
    ds.Manufacturer, ds.ManufacturerModelName = f"Maker {number}", f"Model {number}"
    ds.PatientOrientation = ["L", "F"]
    if number > FIRST:
        ds.SOPClassUID, ds.SpecificCharacterSet = DigitalXRayImageStorageForPresentation, "ISO_IR 100"
        ds.Modality, ds.BodyPartExamined, ds.Rows = "DX", "ABDOMEN", SIDE // 2
    request = Dataset()
    request.RequestedProcedureID, request.RequestedProcedureDescription = f"R{number}", f"Procedure {number}"
    ds.RequestAttributesSequence = [request]
    return ds


def _bare(number: int = 3) -> Dataset:
    """The same with what an image has at the least."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"2.25.{number}", f"2.25.{number}.1"
    ds.SOPInstanceUID = f"2.25.{number}.1.1"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CR", number, 1
    ds.Rows = ds.Columns = SIDE
    ds.PhotometricInterpretation, ds.BodyPartExamined = "MONOCHROME2", "CHEST"
    for keyword in TYPE_2:
        if keyword not in ds:
            setattr(ds, keyword, "")
    return ds


def _numbered(header: Dataset, number: int) -> Dataset:
    ds = Dataset(dict(header.items()))
    ds.SOPInstanceUID, ds.InstanceNumber = f"{header.SeriesInstanceUID}.{number}", number
    return ds


def sequence_items(objects: Sequence[Dataset]) -> list[Dataset]:
    """Every item of every sequence, at any depth."""
    return [item for ds in objects for elem in ds.iterall() if elem.VR == "SQ" for item in elem.value]
