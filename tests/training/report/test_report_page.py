"""The page is read as a browser would: its text, its links, its pictures."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from told_made import held, items

from training import report
from training.audit import Audit, Check
from training.errors import ManifestError
from training.figures import evaluate, subgroups
from training.manifest import Box
from training.report import Example, Refused, Story
from training.report.claim import UNKNOWN, rows
from training.report.examples import chosen
from training.report.page import page
from training.report.pictures import overlay, plain

EMPTY = {"meta", "img"}
CHECKS = (Check("patients", "pass", "No patient is in two splits."), Check("pixels", "fail", "AUC 0.99 <from> pixels."))
AUDIT = Audit("finding", "fail", "Do not use it.", CHECKS)
FILM = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))


class Page(HTMLParser):
    """Text, ids and links of a page; fails on a tag that is not closed."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(content)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[k] or "" for k in ("href", "src") if k in found]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def story(**changed: Any) -> Story:
    some = held()
    example = Example(
        "Cardiomegaly", "false negative", 0.12, FILM, np.eye(4), (Box("Cardiomegaly", 0.2, 0.2, 0.5, 0.5),)
    )
    parts: dict[str, Any] = {
        "title": "heart & mass 1.0.0",
        "on": "made films",
        "held": some,
        "items": items(),
        "thresholds": (0.5, 0.4),
        "figures": evaluate.figures(some, on="made films", prevalence=(0.05, 0.1)),
        "audit": AUDIT,
        "about": {"Intended use": "Tests <only>."},
        "subgroups": subgroups.subgroups(some, items(), on="made films"),
        "refusals": [Refused("hands", 50, 49, "gate")],
        "examples": [example],
        "history": [{"epoch": k, "loss": 1 / k, "val_loss": 1.1 / k} for k in (1, 2, 3)],
        "provenance": {"seed": 7, "packages": {"numpy": "2"}},
        "notes": ["A note."],
    }
    return Story(**(parts | changed))


def test_the_verdict_stands_before_every_figure_and_a_failed_one_is_repeated_there() -> None:
    text = Page(page(story())).text
    assert text.index("FAIL") < text.index("Do not use it.") < text.index("AUC 0.99 <from> pixels.")
    assert (
        text.index("AUC 0.99 <from> pixels.")
        < text.index("these figures do not measure")
        < text.index("average precision")
    )


def test_a_run_without_an_audit_says_so_first() -> None:
    text = Page(page(story(audit=None))).text
    assert "ABSENT" in text and "has no audit" in text


def test_the_page_needs_no_network_and_no_script() -> None:
    content = page(story())
    found = Page(content)
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in found.links)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert not re.search(r"https?:|<script|@import|url\(", content)


def test_text_is_escaped_wherever_it_stands() -> None:
    content = page(story())
    assert "<b>" not in content and "Mass &lt;b&gt;" in content and "heart &amp; mass" in content
    assert "Tests <only>." in Page(content).text


def test_every_part_of_the_run_is_on_the_page() -> None:
    found = Page(page(story()))
    for words in (
        "ROC, AUC 0.",
        "Precision and recall",
        "Calibration, 10 groups of 20 films",
        "Films at the operating point",
        "Every threshold",
        "AUC by age",
        "dashed: threshold 0.500",
        "Missed",
        "hands",
        "loss: training (blue), validation (orange)",
        "CLAIM 2024",
        "PPV at prevalence",
        "5.0%",
        "mean of the labels",
        "A note.",
    ):
        assert words in found.text, words
    assert len(found.ids) == len(set(found.ids))


def test_parts_that_a_run_does_not_have_leave_no_empty_heading() -> None:
    bare = story(examples=(), history=(), refusals=(), subgroups=(), figures=(), provenance={}, notes=())
    found = Page(page(bare))
    for name in ("examples", "history", "refusals", "provenance", "crossed"):
        assert name not in found.ids
    assert "Subgroups" not in found.text


def test_exclusive_labels_show_which_was_taken_for_which() -> None:
    assert "Which label was taken for which" in Page(page(story(exclusive=True))).text


def test_it_is_written_whole(tmp_path: Path) -> None:
    report.write(story(), tmp_path / report.NAME)
    assert (tmp_path / "report.html").read_text().endswith("</html>\n") and len(list(tmp_path.iterdir())) == 1


def test_the_checklist_says_what_the_run_cannot_know() -> None:
    said = dict(rows(story()))
    assert said["Inclusion and exclusion criteria"] == UNKNOWN
    assert said["Level at which partitions are disjoint"] == "No patient is in two splits."
    assert said["Demographic characteristics"].startswith("100 F, 100 M, median age")
    assert "patient of 200" in dict(rows(story(items=items(patient=""))))["How missing data were handled"]


def test_the_overlay_colours_what_the_map_raises_and_draws_the_box() -> None:
    def picture(uri: str) -> Any:
        return np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)

    corner = np.zeros((4, 4))
    corner[0, 3] = 1
    example = Example("Mass", "true positive", 0.9, FILM, corner, (Box("Mass", 0.25, 0.5, 0.5, 0.4),))
    before, after = picture(plain(example)), picture(overlay(example))
    assert (np.ptp(before, axis=2) < 12).all()
    assert after[5, 218, 0] - after[5, 218, 2] > 60 and np.ptp(after[5, 5]) < 30
    assert after[112:114, 100, 2].max() - after[112:114, 100, 0].min() > 60


def test_examples_are_the_most_extreme_films_one_per_patient() -> None:
    some = held()
    found = chosen(some, 0, shown=4)
    hits = [row for kind, row in found if kind == "true positive"]
    assert len(hits) == 4 and len({some.groups[r] for r in hits}) == 4
    assert some.scores[hits[0], 0] == some.scores[some.truth[:, 0] == 1, 0].max()
    missed = next(row for kind, row in found if kind == "false negative")
    assert some.scores[missed, 0] == some.scores[some.truth[:, 0] == 1, 0].min()
    for kind, row in found:
        assert some.truth[row, 0] == (kind != "false positive")
        assert some.flagged[row, 0] == (kind != "false negative")


def test_a_story_whose_parts_do_not_fit_is_not_told() -> None:
    with pytest.raises(ManifestError, match=r"\(200, 2\) films and labels has \(199, 2\) items and thresholds"):
        story(items=items(199))
