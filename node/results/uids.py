"""The names of what the node makes: unique identifiers that are computed, never drawn.

The same inputs give the same UID on every machine and at every time, so that a repeated step repeats the name too.
Nothing here may use the clock, a random number or the name of the machine.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

# The project's own name space. It may never change: every UID that was ever sent depends on it.
NAMESPACE = uuid.UUID("6f3f1f0e-6a0d-5f3c-9a43-6d0e5b1c7a11")
SEPARATOR = "\x1f"


def _uid(*parts: str) -> str:
    # PS3.5 B.2: a UUID becomes a UID as 2.25. and its decimal form, 44 characters at most.
    return f"2.25.{uuid.uuid5(NAMESPACE, SEPARATOR.join(parts)).int}"


IMPLEMENTATION_CLASS_UID = _uid("implementation", "overread")


def device_uid(serial: str) -> str:
    """The Device UID (0018,1002) of the node that carries this serial number."""
    return _uid("device", serial)


def form_uid(sop_instance_uid: str, sop_class_uid: str) -> str:
    """The SOP Instance UID of a result that is told as another SOP class: that makes it another object."""
    return _uid("form", sop_instance_uid, sop_class_uid)


def result_uid(
    *,
    kind: str,
    inputs: Sequence[tuple[str, str]],
    bundle_digest: str,
    settings_digest: str,
    version: str,
    revision: int,
    ordinal: int,
    route: str = "",
    context: Sequence[str] = (),
) -> str:
    """The SOP Instance UID of one result.

    Args:
        kind: which sort of object, such as "sr".
        inputs: SOP Instance UID and digest of every image that it shows; their order does not matter.
        bundle_digest: digest of the model's bundle.
        settings_digest: digest of the settings that bear on the result.
        version: Overread's version.
        revision: the study's revision.
        ordinal: which of several objects of the same kind.
        route: keeps two routes with the same bundle apart.
        context: what else its bytes depend on, such as the other images of its job.
    """
    pairs = [part for pair in sorted(inputs) for part in pair]
    named = (kind, bundle_digest, settings_digest, version, str(revision), str(ordinal), route)
    return _uid("result", *named, *pairs, *context)


def series_uid(study_instance_uid: str, kind: str, bundle_ref: str, *, route: str = "", source: str = "") -> str:
    """The Series Instance UID for results of one kind, model and route: the same over all revisions of a study.

    `source`: the series that the results are about, where each has results of its own.
    """
    return _uid("series", study_instance_uid, kind, bundle_ref, route, *([source] if source else []))


def tracking_uid(image: str, label: str) -> str:
    """The Tracking UID of one label on one image (or series, or study) by its name: the same over revisions and
    versions of the model."""
    return _uid("tracking", image, label)
