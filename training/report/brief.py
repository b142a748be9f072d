"""Pages without a story: what `audit` and `compare` found, as report.html and as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.audit import Audit
from training.figures.compare import Difference
from training.report import html
from training.report.page import audit_section

HEAD = ("label", "AUC of A", "AUC of B", "A less B", "95 % interval", "DeLong p", "only A right", "only B right", "p")


def write_audit(found: Audit, folder: Path, *, name: str, on: str) -> Path:
    """The audit of some films; the page's path."""
    page = html.document("Audit of the films", on, f"<main>{audit_section(found)}</main>")
    return _written(folder, name, page, found.as_json())


def write_comparison(found: Sequence[Difference], folder: Path, *, name: str, a: str, b: str, on: str) -> Path:
    """Two models on the same films; the page's path."""
    rows = [_row(one) for one in found]
    words = "".join(html.text(one.words(a, b)) for one in found)
    legend = html.text(
        f"A is {a}, B is {b}. The last three columns are decisions at the thresholds (McNemar).", "small"
    )
    section = html.section("compared", "Label by label", html.table(HEAD, rows, "numbers"), legend, words)
    page = html.document(f"{a} and {b}", on, f"<main>{section}</main>")
    return _written(folder, name, page, [asdict(one) for one in found])


def write_json(content: Any, page: Path) -> None:
    """The numbers of a page, beside it."""
    html.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n", page.with_suffix(".json"))


def _row(one: Difference) -> list[str]:
    gap, decisions = one.gap, one.decisions
    areas = (f"{one.auc_a:.3f}", f"{one.auc_b:.3f}", f"{gap.difference:+.3f}", f"{gap.low:.3f} to {gap.high:.3f}")
    flags = (str(decisions.only_a), str(decisions.only_b), f"{decisions.exact:.3g}")
    return [one.label, *areas, f"{gap.p:.3g}", *flags]


def _written(folder: Path, name: str, page: str, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_json(content, path)
    html.write(page, path)
    return path
