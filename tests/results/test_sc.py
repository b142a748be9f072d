from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from models.codes import FINDINGS
from node.errors import ResultError
from node.results import header, picture, sc

EIGHT = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
Judge = Callable[[Dataset], list[str]]
Said = list[str]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Every text that is drawn, in order."""
    texts: Said = []
    draw = picture.ImageDraw.ImageDraw.text

    def note(self: Any, xy: Any, text: str, *args: Any, **kwargs: Any) -> None:
        texts.append(text)
        draw(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(picture.ImageDraw.ImageDraw, "text", note)
    return texts


def overlay_of(subject: Any) -> Dataset:
    return sc.overlay(subject, subject.images[0], ordinal=1)


def test_an_overlay_and_a_card_are_valid(make: Any, errors_of: Judge) -> None:
    subject = make.flagged()
    assert errors_of(overlay_of(subject)) == []
    assert errors_of(sc.card(subject, ordinal=1)) == []


@pytest.mark.parametrize(("rows", "columns"), [(2000, 1500), (80, 60), (60, 224), (300, 12), (1024, 1024), (1, 1)])
def test_an_overlay_keeps_the_films_proportions(make: Any, errors_of: Judge, rows: int, columns: int) -> None:
    reading = dataclasses.replace(make.analysed(make.finding("Mass", 0.9)), saliency={})
    white = dataclasses.replace(make.frame(), pixels=np.ones((rows, columns), np.float32))
    built = overlay_of(make.subject(make.evidence(make.source(), reading, pixels=white)))
    film = (built.pixel_array == 255).all(axis=2)
    height, width = int(film[:, built.Columns // 2].argmin()), int(film[0].sum())
    assert max(height, width) == 1024
    assert height / width == pytest.approx(rows / columns, rel=0.02)
    assert film[:height].sum() == height * width, "text on the film"
    assert errors_of(built) == []


def test_an_overlay_says_what_was_found_by_which_model_and_for_what(make: Any, said: Said) -> None:
    overlay_of(make.flagged(audit_note="audit: failed (accepted by setting)", shadow=True))
    assert said[0] == "Pneumothorax 83.2 % (present from 50.0 %)"
    assert "chest-findings 1.0.0" in said
    assert "audit: failed (accepted by setting)" in said
    assert "Shadow route: not delivered." in said
    assert said[-1] == header.RESEARCH_ONLY
    assert len([text for text in said if "present from" in text]) == 1, "only present findings are flagged"
    drawn = " ".join(said)
    assert "Undetermined: Pleural effusion 41.0 %. Below threshold: Lung mass. Nothing else was looked for." in drawn


def test_nothing_of_the_patient_is_drawn(make: Any, said: Said) -> None:
    subject = make.flagged()
    overlay_of(subject)
    sc.card(subject, ordinal=1)
    drawn = " ".join(said)
    for secret in ("Doe", "Jane", "PID", "1970", "ACC12345", "HOSP"):
        assert secret not in drawn


def test_the_heat_lies_where_the_model_looked(make: Any) -> None:
    grid = np.zeros((12, 12), np.float32)
    grid[8:10, 2:4] = 1
    reading = dataclasses.replace(make.analysed(make.finding("Mass", 0.9)), saliency={"Mass": grid})
    flat = dataclasses.replace(make.frame(600, 600), pixels=np.full((600, 600), 0.5, np.float32))
    subject = make.subject(make.evidence(make.source(), reading, pixels=flat))
    colour = overlay_of(subject).pixel_array.astype(int)
    colourful = np.ptp(colour, axis=2)
    assert colourful[768, 256] > 40
    assert colourful[256, 768] == 0


def eight(make: Any, *scores: float) -> Any:
    """One analysed image with these scores of eight findings; 50 % is the threshold of each."""
    return make.analysed(*map(make.finding, EIGHT, scores))


def test_the_colour_is_that_of_the_most_certain_finding_and_named(make: Any, said: Said) -> None:
    reading = eight(make, 0.6, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    maps = {name: np.zeros((12, 12), np.float32) for name in EIGHT}
    maps["Atelectasis"][8:10, 2:4] = maps["Cardiomegaly"][2:4, 8:10] = 1
    flat = dataclasses.replace(make.frame(600, 600), pixels=np.full((600, 600), 0.5, np.float32))
    image = make.evidence(make.source(), dataclasses.replace(reading, saliency=maps), pixels=flat)
    colourful = np.ptp(overlay_of(make.subject(image)).pixel_array.astype(int), axis=2)
    assert colourful[256, 768] > 40, "the enlarged heart, 90 %"
    assert colourful[768, 256] == 0, "the atelectasis, 60 %"
    assert "where the model looked for Cardiomegaly, not its outline." in " ".join(said)


def test_an_overlay_of_eight_findings_names_each_once(make: Any, said: Said) -> None:
    overlay_of(make.subject(make.evidence(make.source(), eight(make, 0.6, 0.9, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1))))
    assert said[:2] == ["Cardiomegaly 90.0 % (present from 50.0 %)", "Atelectasis 60.0 % (present from 50.0 %)"]
    drawn = " ".join(said)
    assert "Undetermined: Pleural effusion 40.0 %." in drawn
    assert "Below threshold: Infiltrate, Lung mass, Nodule of lung, Pneumonia, Pneumothorax." in drawn


def test_an_overlay_of_very_many_findings_counts_those_below_their_thresholds(make: Any, said: Said) -> None:
    findings = [make.finding(name, 0.9 if name == "Mass" else 0.1) for name in FINDINGS]
    overlay_of(make.subject(make.evidence(make.source(), make.analysed(*findings))))
    assert f"Below threshold: {len(FINDINGS) - 1} others." in " ".join(said)


@pytest.mark.parametrize(("rows", "columns"), [(2000, 1500), (1000, 2000), (64, 64), (600, 300), (300, 12)])
def test_eight_present_findings_are_written_below_the_film_and_none_is_cut(
    make: Any, said: Said, rows: int, columns: int
) -> None:
    reading = dataclasses.replace(eight(make, *[0.9] * 8), saliency={})
    black = dataclasses.replace(make.frame(), pixels=np.zeros((rows, columns), np.float32))
    drawn = overlay_of(make.subject(make.evidence(make.source(), reading, pixels=black))).pixel_array
    film, caption = np.split(drawn, [round(1024 * min(1, rows / columns))])
    assert len([text for text in said if "present from" in text]) == 8
    assert np.isin(film, (0, *picture.BACKGROUND)).all(), "text on the film"
    for edge in (caption[:3], caption[-3:], caption[:, :3], caption[:, -3:]):
        assert (edge == picture.BACKGROUND).all(), "text cut off at the edge"


def test_without_a_map_the_overlay_says_so_and_is_grey(make: Any, said: Said, errors_of: Judge) -> None:
    reading = dataclasses.replace(make.analysed(make.finding("Mass", 0.9)), saliency={})
    built = overlay_of(make.subject(make.evidence(make.source(), reading)))
    assert any("No heat map" in text for text in said)
    assert "DerivationCodeSequence" not in built
    assert errors_of(built) == []


def test_an_overlay_without_pixels_is_not_made(make: Any) -> None:
    subject = make.flagged()
    image = dataclasses.replace(subject.images[0], frame=None)
    with pytest.raises(ResultError, match="pixels"):
        sc.overlay(subject, image, ordinal=1)


def test_a_card_of_a_negative_job_lists_each_finding(make: Any, said: Said) -> None:
    reading = make.analysed(make.finding("Mass", 0.02), make.finding("Effusion", 0.41))
    sc.card(make.subject(make.evidence(make.source(), reading)), ordinal=1)
    assert said[0] == "Analysed: nothing of these 2 above its threshold"
    row = said.index("Lung mass")
    assert said[row : row + 3] == ["Lung mass", "2.0 %", "Absent"]
    row = said.index("Pleural effusion")
    assert said[row : row + 3] == ["Pleural effusion", "41.0 %", "Undetermined"]
    assert said[-1] == header.RESEARCH_ONLY


def test_a_card_of_eight_findings_below_their_thresholds_never_sounds_like_normal(make: Any, said: Said) -> None:
    sc.card(make.subject(make.evidence(make.source(), eight(make, *[0.1] * 8))), ordinal=1)
    assert said[0] == "Analysed: nothing of these 8 above its threshold"
    assert [text for text in said if text == "Absent"] == ["Absent"] * 8
    assert "normal" not in " ".join(said).lower()


def test_a_card_of_sick_or_not_says_that_a_low_score_is_no_normal_film(make: Any, said: Said) -> None:
    sc.card(make.subject(make.evidence(make.source(), make.analysed(make.finding("Abnormal", 0.1)))), ordinal=1)
    assert said[0] == "Analysed: not above its threshold"
    assert "For the order of reading only: a film below the threshold is no normal film." in said


def test_a_card_never_calls_a_present_finding_nothing(make: Any, said: Said) -> None:
    sc.card(make.flagged(), ordinal=1)
    assert said[0] == "Analysed: above threshold"


def test_a_card_of_refused_images_gives_each_reason(make: Any, said: Said, errors_of: Judge) -> None:
    subject = make.subject(make.evidence(make.source(1), make.refused()), make.evidence(make.source(2), make.failed()))
    built = sc.card(subject, ordinal=1)
    assert said[0] == "Not analysed"
    assert any(text.startswith("Image 1: The gate") for text in said)
    assert "Image 2: The pixel data are shorter than the header says." in said
    assert "This says nothing about what the images show." in said
    assert len(built.ReferencedImageSequence) == 2
    assert errors_of(built) == []


def test_a_card_of_a_mixed_job_says_both(make: Any, said: Said) -> None:
    sc.card(
        make.subject(
            make.evidence(make.source(1), make.analysed(make.finding("Mass", 0.1))),
            make.evidence(make.source(2), make.refused()),
        ),
        ordinal=1,
    )
    assert said[0] == "Analysed: not above its threshold"
    assert "Not analysed: 1 of 2 images" in said


def test_a_card_with_many_long_reasons_stays_within_its_edges(make: Any, said: Said) -> None:
    long = dataclasses.replace(make.refused(), reason="a reason " * 30 + "x" * 200)
    built = sc.card(make.subject(*(make.evidence(make.source(n), long) for n in range(1, 21))), ordinal=1)
    assert "and 12 more: see the report." in said
    assert (built.pixel_array[:, -8:] == picture.BACKGROUND).all()
    assert built.Rows > 1024


def test_all_pictures_of_a_job_are_in_one_series_and_have_their_own_names(make: Any) -> None:
    subject = make.flagged()
    made = [overlay_of(subject), sc.overlay(subject, subject.images[0], ordinal=2), sc.card(subject, ordinal=1)]
    assert len({ds.SeriesInstanceUID for ds in made}) == 1
    assert len({ds.SOPInstanceUID for ds in made}) == 3
    assert [ds.InstanceNumber for ds in made] == [1, 2, 1]
    assert {ds.SeriesNumber for ds in made} == {9002}


def test_the_same_job_gives_the_same_picture(make: Any, as_bytes: Callable[[Dataset], bytes]) -> None:
    subject = make.flagged()
    assert as_bytes(overlay_of(subject)) == as_bytes(overlay_of(subject))
    assert as_bytes(sc.card(subject, ordinal=1)) == as_bytes(sc.card(subject, ordinal=1))


def test_a_picture_never_hides_what_the_source_confesses(make: Any) -> None:
    source = make.source(
        BurnedInAnnotation="YES",
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
        LossyImageCompressionMethod="ISO_10918_1",
    )
    subject = make.subject(make.evidence(source, make.analysed(make.finding("Mass", 0.9))))
    shown, card = overlay_of(subject), sc.card(subject, ordinal=2)
    assert (shown.BurnedInAnnotation, shown.LossyImageCompression) == ("YES", "01")
    assert (shown.LossyImageCompressionRatio, shown.LossyImageCompressionMethod) == (12.5, "ISO_10918_1")
    assert (card.BurnedInAnnotation, card.LossyImageCompression) == ("NO", "00")


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"BodyPartExamined": "CHEST"}, None),
        ({"BodyPartExamined": "HAND", "Laterality": "L"}, "L"),
        ({"BodyPartExamined": "HAND"}, ""),
        ({"BodyPartExamined": None}, ""),
    ],
)
def test_the_side_is_the_sources_word_or_empty(
    make: Any, errors_of: Judge, changes: dict[str, Any], side: str | None
) -> None:
    built = overlay_of(make.subject(make.evidence(make.source(**changes), make.analysed(make.finding("Mass", 0.9)))))
    assert (built.Laterality if "Laterality" in built else None) == side
    assert errors_of(built) == []


def test_a_covid_19_pattern_is_named_as_one_in_the_picture(make: Any, said: Said) -> None:
    overlay_of(make.subject(make.evidence(make.source(), make.analysed(make.finding("COVID-19", 0.9)))))
    assert "A radiographic pattern only: no radiograph diagnoses COVID-19." in said


def test_a_reason_of_any_length_is_drawn_in_time(make: Any) -> None:
    reading = dataclasses.replace(make.refused(), reason="W" * 50_000)
    started = time.monotonic()
    sc.card(make.subject(make.evidence(make.source(), reading)), ordinal=1)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(("said", "written"), [("YES", "YES"), ("NO", "NO"), (None, None)])
def test_what_a_source_does_not_say_of_burned_in_text_stays_unsaid(make: Any, said: Any, written: Any) -> None:
    reading = make.analysed(make.finding("Mass", 0.9))
    built = overlay_of(
        make.subject(make.evidence(make.source(**({"BurnedInAnnotation": said} if said else {})), reading))
    )
    assert built.get("BurnedInAnnotation") == written
