"""What a bundle is: a folder that says everything about one model, checked whole before anything is used.

Loading runs no code from the folder and opens no network. A bundle that differs from its SHA256SUMS in one bit, or
by one file, is not loaded. Writing bundles is training's business.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from models.codes import Code
from models.preprocess import STEPS, Step

SUMS = "SHA256SUMS"
MODEL, SPEC, CARD = "model.keras", "bundle.json", "MODEL_CARD.md"
METRICS, AUDIT, GOLDEN = "metrics.json", "audit.json", "golden.npz"
REQUIRED = (SPEC, MODEL, CARD, METRICS, AUDIT, GOLDEN)

Unit = Annotated[float, Field(ge=0, le=1)]
AuditVerdict = Literal["pass", "warn", "fail", "absent"]
Task = Literal["binary", "multiclass", "multilabel"]


class BundleError(Exception):
    """A bundle is missing, damaged, or says what cannot be."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeSpec(_Part):
    value: str = Field(min_length=1, max_length=16)
    scheme: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)

    @property
    def code(self) -> Code:
        return Code(self.value, self.scheme, self.meaning)

    @classmethod
    def of(cls, code: Code) -> CodeSpec:
        return cls(value=code.value, scheme=code.scheme, meaning=code.meaning)


class Accepts(_Part):
    """Headers that the model may be used on. An empty list accepts all; an absent attribute contradicts nothing."""

    modality: list[str] = []
    sop_classes: list[str] = []
    body_part: list[str] = []
    view_refused: list[str] = []
    presentation_intent_refused: list[str] = []
    min_age_years: float | None = None
    frames: Literal["single", "first", "middle"] = "single"


class Input(_Part):
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    channels: int = Field(ge=1)


class StepSpec(_Part):
    step: str
    arguments: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known(self) -> StepSpec:
        if self.step not in STEPS:
            raise ValueError(f"{self.step}: no such step (have: {', '.join(STEPS)})")
        return self


class Label(_Part):
    """One output. Score >= threshold: present; < lower: absent; between: undetermined."""

    name: str = Field(min_length=1)
    finding: CodeSpec
    site: CodeSpec
    threshold: Unit
    lower: Unit
    operating_point: str

    @model_validator(mode="after")
    def _ordered(self) -> Label:
        if self.lower > self.threshold:
            raise ValueError(f"label {self.name}: lower {self.lower} is above the threshold {self.threshold}")
        return self


class Calibration(_Part):
    method: Literal["none", "platt", "temperature"]
    slope: list[float]
    intercept: list[float]


class OutOfDistribution(_Part):
    """Refusal of what the model does not know: the distance of its features (in `file`) must not exceed `limit`."""

    method: Literal["mahalanobis"]
    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")
    limit: float = Field(gt=0)


class GateSpec(_Part):
    bundle: str
    accept: list[str] = Field(min_length=1)
    at_least: Unit


class Imported(_Part):
    """How a network ends that was not made here; without this it ends in the layers `pool` and `logits`.

    `outputs`: all of them by name, in order; one that is no label is not reported. `exclusive`: they share one
    softmax. `features`: the layer whose output Grad-CAM weighs.
    """

    outputs: list[str] = Field(min_length=1)
    exclusive: bool
    features: str


class Spec(_Part):
    """bundle.json."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    task: Task
    accepts: Accepts
    preprocessing: list[StepSpec] = Field(min_length=1)
    input: Input
    labels: list[Label] = Field(min_length=1)
    calibration: Calibration
    out_of_distribution: OutOfDistribution | None = None
    gate: GateSpec | None = None
    imported: Imported | None = None
    family: str
    trained_by: str
    intended_use: str
    not_for: str
    licence: str

    @model_validator(mode="after")
    def _agrees(self) -> Spec:
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ValueError(f"labels: two of them have the same name: {names}")
        if (self.task == "binary") != (len(names) == 1):
            raise ValueError(f"labels: a {self.task} model cannot have {len(names)}")
        for key in ("slope", "intercept"):
            if len(getattr(self.calibration, key)) != len(names):
                raise ValueError(f"calibration.{key}: one value for each of {names} is needed")
        if self.imported and not set(names) <= set(self.imported.outputs):
            raise ValueError(f"imported.outputs: {self.imported.outputs} do not hold the labels {names}")
        return self

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(Step(s.step, s.arguments) for s in self.preprocessing)


class AuditCheck(_Part):
    """One entry of `checks` in audit.json."""

    name: str = Field(min_length=1)
    status: Literal["pass", "warn", "fail", "reported", "not run", "not given"]
    text: str
    value: float | None = None


_CHECKS = TypeAdapter(list[AuditCheck])


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `digest` is the BLAKE3 of its SHA256SUMS, so it names every byte of it."""

    path: Path
    spec: Spec
    digest: str
    audit_verdict: AuditVerdict = "absent"

    @property
    def ref(self) -> str:
        return f"{self.spec.name}@{self.spec.version}"

    def file(self, name: str) -> Path:
        return self.path / name

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read and verify a bundle folder.

        Raises:
            BundleError: names the file or the key, and what is wrong with it.
        """
        digest, listed = _verify(path)
        try:
            spec = Spec.model_validate_json((path / SPEC).read_bytes())
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc'])) or SPEC}: {e['msg']}" for e in error.errors(include_url=False)]
            raise BundleError(f"{path / SPEC}: " + "; ".join(lines)) from None
        if path.name != f"{spec.name}-{spec.version}":
            raise BundleError(f"{path}: the folder of {spec.name}@{spec.version} must be {spec.name}-{spec.version}")
        reference = spec.out_of_distribution
        if reference and reference.file not in listed:
            raise BundleError(f"{path / reference.file}: is not listed in {SUMS}, out_of_distribution needs it")
        return cls(path, spec, digest, _audit_verdict(path / AUDIT))


def _verify(path: Path) -> tuple[str, frozenset[str]]:
    """Compare every file with SHA256SUMS; gives the digest of that list and the names in it."""
    for found in (path, *path.rglob("*")):
        if found.is_symlink():  # what it points to can change, and a linked folder is not walked below
            raise BundleError(f"{found}: is a symbolic link, which a bundle must not hold or be")
    try:
        sums = (path / SUMS).read_bytes()
        lines = [line.split("  ", 1) for line in sums.decode("utf-8").splitlines()]
        listed = {name: digest for digest, name in lines}
    except FileNotFoundError:
        raise BundleError(f"{path / SUMS}: is missing; this is no bundle") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path / SUMS}: cannot be read: {error}") from None
    present = {str(f.relative_to(path)) for f in path.rglob("*") if not f.is_dir()} - {SUMS}
    for name in sorted(present - listed.keys()):
        raise BundleError(f"{path / name}: is not listed in {SUMS}")
    for name in sorted({*listed, *REQUIRED} - (present & listed.keys())):
        raise BundleError(f"{path / name}: is missing")
    for name, expected in listed.items():
        with (path / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise BundleError(f"{path / name}: differs from {SUMS}; the bundle is damaged or was changed")
    return blake3(sums).hexdigest(), frozenset(listed)


def _audit_verdict(path: Path) -> AuditVerdict:
    """The verdict that follows from the checks in audit.json, which must be the one that the file states."""
    try:
        content = json.loads(path.read_bytes())
        stated = content["verdict"]
    except (ValueError, KeyError, TypeError):
        raise BundleError(f"{path}: holds no verdict") from None
    derived = _derived(content.get("checks"))
    if stated != derived:
        raise BundleError(f"{path}: verdict {stated!r} disagrees with its checks, from which {derived!r} follows")
    return derived


def _derived(checks: object) -> AuditVerdict:
    try:
        statuses = {check.status for check in _CHECKS.validate_python(checks)}
    except ValidationError:
        return "absent"
    if not statuses:
        return "absent"
    if "fail" in statuses:
        return "fail"
    return "warn" if statuses & {"warn", "not run"} else "pass"
