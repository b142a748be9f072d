"""Report: readings become DICOM objects, written to the spool before the one transaction that ends the job.

Every byte follows from the inputs, the bundle, the settings and the revision, so that a repeated job writes the same
objects under the same UIDs. An object that is stored already is never written again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
from blake3 import blake3
from pydicom.dataset import Dataset

import node as overread
from config.settings import Route, Settings
from models.bundle import Bundle
from models.codes import BODY_PARTS, SOMETHING, Code
from models.findings import Presence, Reading
from models.pixels import Frame
from node.domain import Built, FindingRow, Instance, JobState, Work
from node.errors import ResultError
from node.results import check, gsps, kos, sc, sr
from node.results.check import Draft
from node.results.evidence import Device, Evidence, Model, Predecessor, Subject, read_evidence
from node.results.identifying import anybody
from node.storage import queue
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

Made = dict[str, list[Dataset]]
Builder = Callable[[Subject, Route, Made], list[Draft]]


@dataclass(frozen=True)
class Image:
    """One instance of a job, its pixels where there are any, and what the models said."""

    instance: Instance
    frame: Frame | None
    reading: Reading
    number: int = 1
    """Which frame of the instance."""

    @property
    def is_sound(self) -> bool:
        """Whether the stored file is still the one that was received: only then its header may be believed."""
        return self.reading.code not in ("altered", "unreadable")


@dataclass(frozen=True)
class Outcome:
    """What one job ends with."""

    state: JobState
    reason: str
    findings: tuple[FindingRow, ...]
    results: tuple[Built, ...]


def build(
    work: Work,
    images: Sequence[Image],
    route: Route,
    *,
    spool: Spool,
    store: Store,
    settings: Settings,
    bundle: Bundle,
    gate_digest: str = "",
) -> Outcome:
    """Write the result objects of one job and say how it ends.

    Raises:
        ResultError: an object cannot be built, or no unaltered file is left to build it about.
        OSError: an object cannot be kept.
    """
    subject = _subject(work, images, route, store=store, settings=settings, bundle=bundle, gate_digest=gate_digest)
    made: Made = {}
    results: list[Built] = []
    keeping = partial(keep, spool=spool, is_ours=lambda _: queue.is_held(store, work.job))
    for kind, builder in BUILDERS.items():
        if kind not in route.results:
            continue
        made[kind] = []
        for ordinal, draft in enumerate(builder(subject, route, made), start=1):
            anybodys = partial(_anybodys, builder, subject, route, dict(made), ordinal)
            ours = [ds for objects in made.values() for ds in objects]
            built = keeping(draft, kind, ordinal, subject, ours=ours, anybodys=anybodys)
            results.append(built)
            if not built.quarantine:
                # Only what passed: so nothing that is sent refers to what is not
                made[kind].append(draft.ds)
    state, reason = ending([image.reading for image in images], len(work.missing))
    return Outcome(state, reason, tuple(_rows(images)), tuple(results))


def _pictures(subject: Subject, route: Route, _made: Made) -> list[Draft]:
    """An overlay for each flagged image (of a series: those of `pictured`); with `sc = "always"` otherwise one text
    card, so that a human sees something.

    OHIF shows a Structured Report without regions as an empty viewport: the picture is what a reader gets.
    """
    if route.sc == "never":
        return []
    images = _flagged(subject)
    if images:
        return [
            Draft(sc.overlay(subject, image, ordinal=n), sc.overlay_words(subject, image))
            for n, image in enumerate(images, start=1)
        ]
    return [Draft(sc.card(subject, ordinal=1), sc.card_words(subject))] if route.sc == "always" else []


def pictured(readings: Sequence[Reading], *, by_series: bool) -> frozenset[int]:
    """Which images get an overlay: each that is flagged; of a series the one with the highest score of each finding.

    A model that knows body parts flags every slice, and nobody wants a hundred pictures of one head.
    """
    found = [(f, i) for i, reading in enumerate(readings) for f in reading.findings if f.presence is Presence.PRESENT]
    if not by_series:
        return frozenset(i for _, i in found)
    highest = {f.label: i for f, i in sorted(found, key=lambda pair: (pair[0].score, -pair[1]))}
    return frozenset(highest.values())


def thinned(images: Sequence[Image], *, by_series: bool) -> list[Image]:
    """The same images, without the pixels of those that no picture will be made of: a series has thousands."""
    wanted = pictured([image.reading for image in images], by_series=by_series)
    return [
        image
        if i in wanted or image.frame is None or not image.frame.pixels.size
        else replace(image, frame=replace(image.frame, pixels=np.zeros((0, 0), np.float32)))
        for i, image in enumerate(images)
    ]


def _flagged(subject: Subject) -> list[Evidence]:
    """The images that are shown: with a present finding, and with pixels to show it on."""
    wanted = pictured([image.reading for image in subject.images], by_series=bool(subject.choice))
    return [image for i, image in enumerate(subject.images) if i in wanted and image.frame is not None]


def _reports(subject: Subject, _route: Route, made: Made) -> list[Draft]:
    return [Draft(sr.build(subject, visuals=made.get("sc", [])))]


def _annotations(subject: Subject, _route: Route, _made: Made) -> list[Draft]:
    shown = [image for image in _flagged(subject) if gsps.can_show(image)]
    return [Draft(gsps.build(subject, image, ordinal=n)) for n, image in enumerate(shown, start=1)]


def _key_images(subject: Subject, _route: Route, made: Made) -> list[Draft]:
    images = _flagged(subject)
    return [Draft(kos.build(subject, images, visuals=made.get("sc", [])))] if images else []


def _documents(subject: Subject, _route: Route, made: Made) -> list[Draft]:
    # Here and not above: fpdf2 costs each worker 28 MB, and few routes ask for documents
    from node.results import pdf

    return [Draft(*pdf.typeset(subject, visuals=made.get("sc", [])))]


BUILDERS: dict[str, Builder] = {
    "sc": _pictures,
    "sr": _reports,
    "gsps": _annotations,
    "kos": _key_images,
    "pdf": _documents,
}
"""One entry per result kind, in the order in which they may refer to each other."""


def _subject(
    work: Work,
    images: Sequence[Image],
    route: Route,
    *,
    store: Store,
    settings: Settings,
    bundle: Bundle,
    gate_digest: str,
) -> Subject:
    sound = [image for image in images if image.is_sound]
    if not sound:
        raise ResultError("no file of this job is left as it was received; send the study again")
    when = max(image.instance.received_at for image in sound)
    paths = {image.instance.id: image.instance.path for image in sound}
    headers = {id_: read_evidence(path) for id_, path in paths.items()}
    choice = work.job.choice
    return Subject(
        device=device(store, settings),
        model=Model(
            name=bundle.spec.name,
            version=bundle.spec.version,
            digest=bundle.digest,
            manufacturer=bundle.spec.trained_by,
            settings_digest=settings_digest(route, settings, also=(store.serial, gate_digest)),
            family=bundle.spec.family,
            body_part=body_part(bundle),
            audit_note=audit_note(bundle),
        ),
        images=tuple(Evidence(headers[i.instance.id], i.instance.digest, i.reading, i.frame, i.number) for i in sound),
        revision=work.job.revision,
        # The inputs' own time, not the clock's: a database rebuilt from the spool gives the same bytes again
        when=datetime.fromtimestamp(int(when), tz=UTC).astimezone(),
        route=route.name,
        shadow=route.mode == "shadow",
        missing=(*work.missing, *dict.fromkeys(i.instance.sop_instance_uid for i in images if not i.is_sound)),
        predecessors=tuple(
            Predecessor(work.study.study_instance_uid, p.series_instance_uid, p.sop_class_uid, p.sop_instance_uid)
            for p in work.predecessors
        ),
        choice=choice.sentence if choice else "",
        series_instance_uid=work.job.series_instance_uid,
    )


def device(store: Store, settings: Settings) -> Device:
    """The node itself, as results name it."""
    return Device(
        ae_title=settings.node.ae_title,
        organisation=settings.node.organisation,
        serial=store.serial,
        version=overread.__version__,
    )


def body_part(bundle: Bundle) -> Code:
    """What part of the body a bundle looks at: what its gate lets through, else its labels' site if they share one."""
    accepted = bundle.spec.gate.accept[0] if bundle.spec.gate else ""
    known = BODY_PARTS.get(accepted)
    sites = dict.fromkeys(label.site.code for label in bundle.spec.labels)
    return known.site if known else next(iter(sites)) if len(sites) == 1 else SOMETHING


def settings_digest(route: Route, settings: Settings, *, also: Sequence[str]) -> str:
    """A digest of what else changes what a result says: settings, and (`also`) which node and which gate."""
    values = route.model_dump(include={"name", "frames", "gate", "results", "sc", "mode"}, mode="json")
    values |= {"ae_title": settings.node.ae_title, "organisation": settings.node.organisation, "also": list(also)}
    values |= {"pixel_budget_mb": settings.infer.pixel_budget_mb}
    return blake3(json.dumps(values, sort_keys=True).encode()).hexdigest()


def audit_note(bundle: Bundle) -> str:
    """What every result must say of a bundle whose audit is not a pass."""
    verdict = bundle.audit_verdict
    if verdict == "fail":
        return "The audit of this model failed; a person accepted that in the settings"
    if verdict == "absent":
        return "This model was not audited; a person accepted that in the settings"
    return ""


def _anybodys(builder: Builder, subject: Subject, route: Route, made: Made, ordinal: int) -> list[str]:
    """The words of the same object of a patient of whom nothing is known."""
    return builder(anybody(subject), route, made)[ordinal - 1].texts()


def keep(
    draft: Draft,
    kind: str,
    ordinal: int,
    subject: Subject,
    *,
    ours: Sequence[Dataset] = (),
    anybodys: Callable[[], list[str]],
    spool: Spool,
    is_ours: Callable[[str], bool],
) -> Built:
    """Check an object and write it, unless the very same UID is there already: stored bytes are sent, never made anew.

    One that is not as it must be goes into quarantine, with the reasons beside it; `is_ours` says of a stored UID
    whether nobody else has come to answer for it meanwhile.

    Raises:
        ResultError: somebody else has, and it is not ours to judge any more.
    """
    uid = str(draft.ds.SOPInstanceUID)
    path = spool.result_path(uid)
    stored = spool.shelf.holds(path)
    data = spool.shelf.at_hand(path).read_bytes() if stored else _encoded(draft.ds)
    wrong = check.problems(data, draft, subject, fresh=not stored, ours=ours, anybodys=anybodys)
    if wrong:
        if stored and not is_ours(uid):
            raise ResultError(f"the {kind} is another worker's meanwhile")
        spool.shelf.remove(path)
        path, stored = spool.quarantine_path(uid), False
        spool.write(f"reasons-{uid}", "".join(f"{line}\n" for line in wrong).encode(), path.with_suffix(".txt"))
    if not stored:
        # A host whose lease is over, and does not know it yet, must not write over what another one has reported
        spool.write(f"result-{uid}", data, path, once=not wrong)
    here = spool.shelf.at_hand(path)
    return Built(
        kind=kind,
        ordinal=ordinal,
        sop_instance_uid=uid,
        sop_class_uid=str(draft.ds.SOPClassUID),
        series_instance_uid=str(draft.ds.SeriesInstanceUID),
        path=path,
        digest=digest_of(here),
        size=here.stat().st_size,
        quarantine="; ".join(wrong),
    )


def _encoded(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _rows(images: Sequence[Image]) -> list[FindingRow]:
    rows = []
    for image in images:
        said = (image.instance.id, image.reading.status, image.reading.reason)
        number = image.number
        rows += [FindingRow(*said, f.label, f.score, f.presence.value, number) for f in image.reading.findings]
        if not image.reading.findings:
            rows.append(FindingRow(*said, frame=number, code=image.reading.code))
    return rows


def ending(readings: Sequence[Reading], missing: int) -> tuple[JobState, str]:
    """DONE if at least one image was analysed, else REFUSED; and the sentence that goes with it."""
    left = [r.reason for r in readings if r.status != "analysed"]
    gone = [f"the files of {missing} images are gone"] if missing else []
    if len(left) < len(readings):
        some = [f"{len(left)} of {len(readings)} images not analysed: {'; '.join(dict.fromkeys(left))}"] if left else []
        return JobState.DONE, "; ".join([*some, *gone])
    return JobState.REFUSED, "; ".join([*dict.fromkeys(left), *gone]) or "no image was left to analyse"
