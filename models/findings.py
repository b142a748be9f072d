"""From frames to readings: may this model read this image, what does it say, what does that mean.

Header and gate are both asked, the network only when neither refuses; a reason says what was asked and what was found.
Silence never means normal: every item that comes in gets a reading.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from models.bundle import Accepts, Bundle, BundleError, GateSpec
from models.codes import Code
from models.engine import Engine, Prediction, Predicts
from models.pixels import Frame, Header, NotAnalysable
from models.predictor import Predictor
from models.registry import Registry

_LOADED: WeakValueDictionary[tuple[str, str, int], Predictor] = WeakValueDictionary()


class Presence(StrEnum):
    """PS3.16 CID 240."""

    PRESENT = "PRESENT"
    ABSENT = "ABSENT"
    UNDETERMINED = "UNDETERMINED"


@dataclass(frozen=True)
class Finding:
    """One label of one image. `score` in [0, 1] is a probability when `calibrated`.

    Score >= `threshold`: present; < `lower`: absent; between: undetermined.
    """

    label: str
    finding: Code
    site: Code
    score: float
    calibrated: bool
    threshold: float
    lower: float
    presence: Presence
    operating_point: str


@dataclass(frozen=True)
class Reading:
    """What is said of one image. `code` and `reason` are empty when it was analysed.

    `gate` holds the gate's scores; `distance` is how far the image is from what the gate knows, None when not asked.
    """

    status: Literal["analysed", "refused", "failed"]
    code: str = ""
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    gate: Mapping[str, float] = field(default_factory=dict)
    gate_bundle: str = ""
    saliency: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    distance: float | None = None


class Reader:
    """A bundle behind its gate, both loaded and warm.

    `gate_at_least` may only tighten what the bundle asks of its gate. `engine`: where the networks run; without it in
    this process, on `device` with `threads`.

    Raises:
        ValueError: it loosens it, or the bundle has no gate.
        BundleError: the gate is not there, or does not know what the bundle accepts.
        DeviceError: the device is not there.
    """

    def __init__(
        self,
        registry: Registry,
        bundle: Bundle,
        *,
        device: str = "auto",
        threads: int = 0,
        gate_at_least: float | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.bundle = bundle
        self.gate = bundle.spec.gate
        self.gate_at_least = _tightened(bundle, gate_at_least)
        self.gate_bundle = see_gate(registry, bundle.ref, self.gate) if self.gate else None

        def predictor(of: Bundle) -> Predicts:
            return engine.predictor(of) if engine else _shared(of, device=device, threads=threads)

        self._predictor = predictor(bundle)
        self._gate_predictor = predictor(self.gate_bundle) if self.gate_bundle else None

    @property
    def device(self) -> str:
        """Where the network runs; "" while that is not known."""
        return self._predictor.device

    def verify(self) -> None:
        """Replay the golden images of the bundle and of its gate.

        Raises:
            BundleError: one of them does not give what it gave where it was made.
            EngineAway: where they run cannot be reached.
        """
        for predictor in (self._predictor, self._gate_predictor):
            if predictor:
                predictor.verify()

    def read(self, items: Sequence[Frame | NotAnalysable]) -> list[Reading]:
        """One reading for each item, in order; a NotAnalysable becomes "failed"."""
        readings: dict[int, Reading] = {}
        frames: dict[int, Frame] = {}
        for i, item in enumerate(items):
            if isinstance(item, NotAnalysable):
                readings[i] = Reading("failed", item.code, item.reason)
            else:
                frames[i] = item
        admitted = self._pass_gate(frames, readings)
        predictions = self._predictor.predict([frames[i].pixels for i in admitted])
        for i, prediction in zip(admitted, predictions, strict=True):
            readings[i] = self._reading(prediction, admitted[i])
        return [readings[i] for i in range(len(items))]

    def _pass_gate(self, frames: Mapping[int, Frame], readings: dict[int, Reading]) -> dict[int, Reading]:
        """The frames that the gate lets through, each with what it said; the others get their refusal in `readings`."""
        if not self._gate_predictor or not self.gate_bundle or not frames:
            headers = {i: self._header_refusal(frame) for i, frame in frames.items()}
            readings.update({i: Reading("refused", *said) for i, said in headers.items() if said[0]})
            return {i: Reading("analysed") for i, said in headers.items() if not said[0]}
        admitted: dict[int, Reading] = {}
        predictions = self._gate_predictor.predict([f.pixels for f in frames.values()])
        for i, said in zip(frames, predictions, strict=True):
            # Both are asked, so that a refusal by the header still says what the pixels look like
            refusals = [r for r in (self._header_refusal(frames[i]), self._gate_refusal(said)) if r[0]]
            code = refusals[0][0] if refusals else ""
            reason = "; ".join(sentence for _, sentence in refusals)
            reading = Reading(
                "refused" if code else "analysed",
                code,
                reason,
                gate=said.scores,
                gate_bundle=self.gate_bundle.ref,
                distance=said.distance,
            )
            (readings if code else admitted)[i] = reading
        return admitted

    def _header_refusal(self, frame: Frame) -> tuple[str, str]:
        return header_refusal(self.bundle.spec.accepts, frame.header) or ("", "")

    def _gate_refusal(self, said: Prediction) -> tuple[str, str]:
        assert self.gate and self.gate_bundle
        if unknown := _unknown(self.gate_bundle, said):
            return "out_of_distribution", unknown
        score = sum(said.scores[name] for name in self.gate.accept)
        if score >= self.gate_at_least:
            return "", ""
        accepted = " or ".join(self.gate.accept)
        return "gate", (
            f"The gate {self.gate_bundle.ref} says {accepted} {_percent(score)}, "
            f"at least {_percent(self.gate_at_least)} is needed"
        )

    def _reading(self, prediction: Prediction, gate: Reading) -> Reading:
        own = _unknown(self.bundle, prediction)
        return Reading(
            "refused" if own else "analysed",
            "out_of_distribution" if own else "",
            own,
            scores={} if own else prediction.scores,
            findings=() if own else findings(self.bundle, prediction),
            gate=gate.gate,
            gate_bundle=gate.gate_bundle,
            saliency={} if own else prediction.saliency,
            distance=gate.distance if prediction.distance is None else prediction.distance,
        )


def _shared(bundle: Bundle, *, device: str, threads: int) -> Predictor:
    """The one predictor of this bundle in this process, for as long as a reader holds it: bundles share their gate."""
    key = (bundle.digest, device, threads)
    found = _LOADED.get(key)
    if found is None:
        found = _LOADED[key] = Predictor(bundle, device=device, threads=threads)
    return found


def findings(bundle: Bundle, prediction: Prediction) -> tuple[Finding, ...]:
    """The labels of a prediction in the bundle's order, each with its operating point applied."""
    return tuple(
        Finding(
            label=label.name,
            finding=label.finding.code,
            site=label.site.code,
            score=prediction.scores[label.name],
            calibrated=bundle.spec.calibration.method != "none",
            threshold=label.threshold,
            lower=label.lower,
            presence=_presence(prediction.scores[label.name], label.threshold, label.lower),
            operating_point=label.operating_point,
        )
        for label in bundle.spec.labels
    )


def header_refusal(accepts: Accepts, header: Header) -> tuple[str, str] | None:
    """Code and reason when the header contradicts what a bundle accepts; an absent attribute does not."""
    lists = (
        ("modality", "modality", header.modality, accepts.modality),
        ("sop_class", "SOP class", header.sop_class_uid, accepts.sop_classes),
        ("body_part", "body part", header.body_part, accepts.body_part),
    )
    for code, name, value, accepted in lists:
        if value and accepted and value not in accepted:
            return code, f"The {name} is {_quoted(value)}; the model reads {', '.join(accepted)}"
    refusals = (
        ("view", "view", header.view_position, accepts.view_refused),
        ("presentation_intent", "presentation intent", header.presentation_intent, accepts.presentation_intent_refused),
    )
    for code, name, value, refused in refusals:
        if value in refused:
            return code, f"The {name} is {_quoted(value)}, which the model does not read"
    least = accepts.min_age_years
    if least is not None and header.age_years is not None and header.age_years < least:
        return "age", f"The patient is younger than {least:.0f} years; the model was not evaluated on children"
    return None


def _quoted(value: str) -> str:
    """A header's value where it is a code; free text might be a name, and reasons end in pictures and logs."""
    return value if re.fullmatch(r"[A-Z0-9_ ]{1,16}|[0-9.]{1,64}", value) else "another one"


def _tightened(bundle: Bundle, wanted: float | None) -> float:
    gate = bundle.spec.gate
    if wanted is None:
        return gate.at_least if gate else 0.0
    if not gate:
        raise ValueError(f"{bundle.ref} has no gate that could be tightened")
    if not gate.at_least <= wanted <= 1:
        raise ValueError(f"gate at_least = {wanted}: {bundle.ref} asks for {gate.at_least}, only 1 or less, and more")
    return wanted


def see_gate(registry: Registry, asking: str, gate: GateSpec) -> Bundle:
    """The gate's bundle.

    Raises:
        BundleError: it is not there, or has not the labels that are asked for.
    """
    found = registry.find(gate.bundle)
    names = [label.name for label in found.spec.labels]
    for name in gate.accept:
        if name not in names:
            raise BundleError(f"{asking}: its gate {found.ref} has no label {name} (have: {', '.join(names)})")
    return found


def _unknown(bundle: Bundle, said: Prediction) -> str:
    limit = bundle.spec.out_of_distribution.limit if bundle.spec.out_of_distribution else None
    if limit is None or said.distance is None or said.distance <= limit:
        return ""
    return (
        f"The image is unlike those that {bundle.ref} knows: distance {said.distance:.2f}, "
        f"at most {limit:.2f} is accepted"
    )


def _presence(score: float, threshold: float, lower: float) -> Presence:
    if score >= threshold:
        return Presence.PRESENT
    return Presence.ABSENT if score < lower else Presence.UNDETERMINED


def _percent(score: float) -> str:
    return f"{100 * score:.1f} %"
