"""What a node of the model-based test meets: films, a PACS that never forgets, a model without a network, death."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import models_made
import numpy as np
from house import make_image
from pydicom.uid import ComprehensiveSRStorage

from models.findings import Reading
from models.pixels import Frame, NotAnalysable
from node.network.sender import Outcome

STUDIES = ("1.2.3.1", "1.2.3.2", "1.2.3.3")
NUMBERS = (1, 2, 3)
ROWS = 60
"""And one more for each number, by which the stub of the model knows the image."""
SAME_UID: dict[str, dict[str, Any]] = {
    "as it is": {},
    "in other bytes": {"ImageComments": "the same pixels"},
    "with other pixels": {"pixels": np.eye(48, dtype=np.uint16)},
    "of another patient": {"PatientID": "P9"},
    "of another study": {"StudyInstanceUID": "1.2.3.9"},
}
"""How one SOP Instance UID may come."""
OTHER_UID: dict[str, dict[str, Any]] = {
    "a stranger's": {"PatientID": "P8"},
    "a report": {"SOPClassUID": ComprehensiveSRStorage, "Rows": None, "Columns": None, "PixelData": None},
    "a CT": {"Modality": "CT"},
}
"""What else may come under a study's UID."""
COMINGS = [*SAME_UID, *OTHER_UID]

ANSWERS = {
    "stored": Outcome(0x0000, "", "stored"),
    "warning": Outcome(0xB000, "coerced", "warning"),
    "busy": Outcome(0xA700, "busy", "retry"),
    "refused": Outcome(0xA900, "no", "permanent"),
    "unsupported": Outcome(0x0122, "SOP class not supported", "retry"),
    "down": Outcome(None, "nothing listens", "retry"),
    "answer lost": Outcome(None, "the connection broke", "retry"),
}
KEPT = ("stored", "warning", "answer lost")


class Killed(BaseException):
    """Stands for SIGKILL: no loop's edge may catch it."""


class Grave:
    """Takes the place of `failpoint`: whoever comes to the armed place dies there, once."""

    def __init__(self) -> None:
        self.armed = ""

    def __call__(self, name: str) -> None:
        if name == self.armed:
            self.armed = ""
            raise Killed(name)


class Films:
    """DICOM files for all examples of a test, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, int, str], Path] = {}

    def __call__(self, study: str, number: int, coming: str) -> Path:
        key = (study, number, coming)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, study: str, number: int, coming: str) -> Path:
        series = STUDIES.index(study) + 1
        other = COMINGS.index(coming) if coming in OTHER_UID else 0
        pixels = np.arange((ROWS + number) * 48, dtype=np.uint16).reshape(-1, 48) + series
        values: dict[str, Any] = {
            "StudyInstanceUID": study,
            "SeriesInstanceUID": f"{study}.{series}",
            "SOPInstanceUID": f"{study}.{series}.{number}.{other}",
            "InstanceNumber": number,
            "PatientID": f"P{series}",
            "pixels": pixels,
        }
        return make_image(
            self._folder / f"{len(self._made)}.dcm", **values | SAME_UID.get(coming, OTHER_UID.get(coming, {}))
        )


class Pacs:
    """Keeps what it gets; what it holds under one UID may never change. Stands in the place of a `Sender`."""

    idle_seconds = 0.0

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.answers: list[str] = []

    def send(
        self, paths: Sequence[Path], *, wanted: Callable[[Path], bool] | None = None, **_offers: Any
    ) -> Iterator[tuple[Path, Outcome]]:
        for path in paths:
            if wanted is None or wanted(path):
                answer = self.answers.pop(0) if self.answers else "stored"
                if answer in KEPT:
                    data = path.read_bytes()
                    assert self.held.setdefault(path.stem, data) == data, f"other bytes under {path.stem}"
                yield path, ANSWERS[answer]

    def close(self) -> None:
        """Nothing is held open."""


class Known:
    """A registry with one bundle."""

    def find(self, _ref: str) -> Any:
        return models_made.bundle()


class Reader:
    """Says the same of the same pixels, always: flagged, inconspicuous or refused. Or breaks, when it is told to."""

    device = "none"
    broken = False

    def __init__(self, _registry: Any, bundle: Any, **_: Any) -> None:
        self.bundle = bundle

    def verify(self) -> None:
        """Always as it was."""

    def read(self, items: Sequence[Frame | NotAnalysable]) -> list[Reading]:
        if Reader.broken:
            raise RuntimeError("out of memory")
        return [_said(item) for item in items]


def _said(item: Frame | NotAnalysable) -> Reading:
    if isinstance(item, NotAnalysable):
        return Reading("failed", item.code, item.reason)
    score = {ROWS + 1: 0.83, ROWS + 2: 0.1, ROWS + 3: 0.9}.get(item.pixels.shape[0])
    return models_made.reading(score, reason="The gate says leg")
