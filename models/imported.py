"""Makes a bundle of somebody's own Keras file.

What nobody knows about such a model is said so: no calibration, no figures, no audit, so that no route goes live with
it by accident. The bundle is complete and gives the network's own scores, or it is not there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from models import families, scores
from models.bundle import (
    AUDIT,
    CARD,
    METRICS,
    MODEL,
    SPEC,
    Accepts,
    Calibration,
    CodeSpec,
    GateSpec,
    Imported,
    Input,
    Label,
    Spec,
    StepSpec,
    Task,
)
from models.foreign import ImportRefused, as_logits, feature_layer, in_words, input_shape, open_network
from models.naming import concepts, is_finding, plainly
from models.seal import built, write_golden

Floats = NDArray[np.float32]
TOLERANCE = 0.002
"""Largest difference between a score of the bundle and of the network itself: rounding, and nothing else."""


@dataclass(frozen=True)
class Request:
    """What a person says about a Keras file.

    `labels`: one for each output, in order. `preprocessing`: a preset, or a JSON file with a list of steps. `codes`: a
    JSON file, label -> {"finding": code, "site": code}. `threshold`: score from which a label is present.
    """

    model: Path
    name: str
    version: str
    labels: tuple[str, ...]
    preprocessing: str
    task: Task | None = None
    codes: Path | None = None
    modality: tuple[str, ...] = ("CR", "DX", "RG")
    min_age: float | None = 18.0
    gate: GateSpec | None = None
    threshold: float = 0.5


def make(request: Request, out: Path) -> Path:
    """Make and seal the bundle `out/name-version`; gives its folder.

    Raises:
        ImportRefused: says what about the file or the request is wrong, and what is allowed.
    """
    path = out / f"{request.name}-{request.version}"
    if path.exists():
        raise ImportRefused(f"{path}: is there already; bundles do not change, give another --version")
    model = open_network(request.model)
    shape = input_shape(model)
    features = feature_layer(model)
    steps = families.steps(request.preprocessing, shape)
    inputs = families.inputs(steps, shape)
    original = np.asarray(model(inputs, training=False), np.float32)
    model, activation = as_logits(model)
    imported = Imported(
        outputs=list(request.labels), exclusive=_exclusive(request, model, activation), features=features
    )
    spec = _specification(request, imported, steps=steps, shape=shape)
    with built(path) as building:
        model.save(building / MODEL, zipped=True)
        (building / SPEC).write_text(spec.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
        (building / METRICS).write_text('{\n  "figures": []\n}\n', encoding="utf-8")
        (building / AUDIT).write_text('{\n  "verdict": "absent",\n  "checks": []\n}\n', encoding="utf-8")
        (building / CARD).write_text(_card(request, spec, activation=activation), encoding="utf-8")
        _compare(write_golden(building), original, spec=spec, activation=activation)
    return path


def task(text: str) -> Task | None:
    """What a person says about how the outputs go together; "" where the last layer is to say it.

    Raises:
        ImportRefused: it is none of the three.
    """
    try:
        return TypeAdapter(Task).validate_python(text) if text else None
    except ValidationError:
        raise ImportRefused(f"--task {text}: one of {', '.join(get_args(Task))} is needed") from None


def gate(text: str) -> GateSpec:
    """ "bundle:label:score", with several labels as "label,label".

    Raises:
        ImportRefused: it is not of that form.
    """
    try:
        bundle, accept, least = text.split(":")
        return GateSpec(bundle=bundle, accept=[a for a in accept.split(",") if a], at_least=float(least))
    except ValueError:
        raise ImportRefused(f"--gate {text}: BUNDLE:LABEL:SCORE is needed, such as body-part:chest:0.9") from None


def _exclusive(request: Request, model: Any, activation: str) -> bool:
    """Whether the outputs share one softmax; also sees that labels and task fit the outputs."""
    labels, task = request.labels, request.task
    outputs = int(model.outputs[0].shape[1])
    if len(labels) != outputs or len({plainly(label) for label in labels}) != outputs:
        raise ImportRefused(
            f"--labels {','.join(labels)}: the network has {outputs} outputs; a name of its own for each"
        )
    if activation == "softmax" and outputs == 1:
        raise ImportRefused("the network ends in a softmax of one output, which is always 1")
    if activation == "linear" and outputs > 1 and task is None:
        raise ImportRefused(
            "the network's last layer has no activation, so nobody can tell whether its outputs exclude each other: "
            "say --task multiclass (softmax) or --task multilabel (sigmoid of each)"
        )
    exclusive = activation == "softmax" or (activation == "linear" and outputs > 1 and task == "multiclass")
    findings = [label for label in labels if is_finding(label, labels)]
    if not findings:
        raise ImportRefused(f"--labels {','.join(labels)}: none of them names a finding")
    fits = {None: True, "multiclass": exclusive, "multilabel": not exclusive, "binary": len(findings) == 1}
    if not fits[task]:
        raise ImportRefused(
            f"--task {task}: does not fit {outputs} outputs with the activation {activation} "
            f"and the findings {', '.join(findings)}"
        )
    return exclusive


def _specification(request: Request, imported: Imported, *, steps: list[StepSpec], shape: tuple[int, int, int]) -> Spec:
    findings = [label for label in request.labels if is_finding(label, request.labels)]
    whole = imported.exclusive and len(findings) == len(request.labels)
    meant = concepts(request.codes, findings)
    point = f"score at least {request.threshold:g}; chosen on no data"
    try:
        labels = [
            Label(
                name=name,
                finding=CodeSpec.of(concept.finding),
                site=CodeSpec.of(concept.site),
                threshold=request.threshold,
                lower=request.threshold,
                operating_point=point,
            )
            for name, concept in meant.items()
        ]
        return Spec(
            schema_version=1,
            name=request.name,
            version=request.version,
            task="binary" if len(labels) == 1 else "multiclass" if whole else "multilabel",
            accepts=Accepts(
                modality=list(request.modality),
                presentation_intent_refused=["FOR PROCESSING"],
                min_age_years=request.min_age,
            ),
            preprocessing=steps,
            input=Input(height=shape[0], width=shape[1], channels=shape[2]),
            labels=labels,
            calibration=Calibration(method="none", slope=[1.0] * len(labels), intercept=[0.0] * len(labels)),
            gate=request.gate,
            imported=imported,
            family=f"Imported Keras network ({request.model.name})",
            trained_by=f"Somebody else; imported by Overread {version('overread')}",
            intended_use="Not stated in the file. Research use only.",
            not_for="Diagnosis, triage or any other use on patients. It was neither evaluated nor audited here.",
            licence="That of the imported file; not stated in it",
        )
    except ValidationError as error:
        raise ImportRefused(in_words(error)) from None


def _compare(got: Floats, original: Floats, *, spec: Spec, activation: str) -> None:
    """See that the bundle gives the scores that the network itself gives."""
    assert spec.imported
    if activation == "linear":
        task = "multiclass" if spec.imported.exclusive else "multilabel"
        original = scores.calibrated(original, task=task, slope=np.ones(1), intercept=np.zeros(1))
    own = original[:, [spec.imported.outputs.index(label.name) for label in spec.labels]]
    gap = float(np.abs(got - own).max())
    if not gap <= TOLERANCE:
        raise ImportRefused(f"the bundle's scores differ from the network's own by {gap:.4f} ({TOLERANCE} allowed)")


def _card(request: Request, spec: Spec, *, activation: str) -> str:
    assert spec.imported
    silent = [name for name in spec.imported.outputs if name not in {label.name for label in spec.labels}]
    digest = hashlib.sha256(request.model.read_bytes()).hexdigest()
    gated = (
        f"{spec.gate.bundle} must see {' or '.join(spec.gate.accept)} first" if spec.gate else "none: it reads any film"
    )
    rows = [
        f"| {label.name} | {said.meaning} ({said.value}, {said.scheme}) | {label.site.meaning} | {label.threshold:g} |"
        for label in spec.labels
        if (said := label.finding)
    ]
    parts = [
        f"# {spec.name} {spec.version}",
        "**Research use only. Not a medical device. Not for diagnosis or any other decision about a patient.**",
        "## Audit: absent\n\nThis network was made elsewhere. A live route to it needs `accept_unaudited = true`.",
        "## What is not known\n\nOn which images and patients it was trained and tested; whether patients or sources "
        "were mixed up in that; how often it is right; on which films it fails. Its scores are no probabilities and "
        "its threshold was chosen on no data. Whether its makers resized and scaled films exactly as the steps below.",
        "## What is known",
        f"- The file: {request.model.name}, SHA-256 {digest}",
        f"- Outputs: {', '.join(spec.imported.outputs)}; last activation: {activation}."
        + (f" Not reported, as they name no finding: {', '.join(silent)}." if silent else ""),
        "- Preprocessing: " + "; ".join(f"{s.step} {json.dumps(s.arguments)}" for s in spec.preprocessing),
        f"- Gate: {gated}. Youngest patient: {_age(spec.accepts.min_age_years)}.",
        f"- Pictures: Grad-CAM on the layer `{spec.imported.features}`.",
        "## Labels\n\n| label | finding | site | present at |\n| --- | --- | --- | --- |\n" + "\n".join(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _age(years: float | None) -> str:
    return "any" if years is None else f"{years:g} years"
