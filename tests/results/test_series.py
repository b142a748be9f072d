"""Results about one series, of which some images were read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

from config.settings import Route
from node.pipeline import report
from node.results import sc, sr, uids
from node.results.evidence import Subject

Judge = Callable[[Dataset], list[str]]
SENTENCE = "Read frames 1, 5, 9 of 12 of this series, in the order of their positions."
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def of_series(make: Any, *scores: float, frames: tuple[int, ...] = (1, 5, 9), **changed: Any) -> Subject:
    """Some frames of one object, each with the finding at a score of its own."""
    source = make.source(SOPClassUID=ENHANCED_CT, NumberOfFrames=12, Modality="CT", BodyPartExamined="HEAD")
    images = [
        make.evidence(
            source,
            make.analysed(make.finding("Mass", score)),
            pixels=dataclasses.replace(make.frame(), number=number, frames_used="chosen"),
        )
        for number, score in zip(frames, scores, strict=True)
    ]
    fields = {"choice": SENTENCE, "series_instance_uid": str(source.SeriesInstanceUID), **changed}
    return make.subject(*images, **fields)


def test_several_frames_of_one_object_make_valid_results(make: Any, errors_of: Judge) -> None:
    subject = of_series(make, 0.2, 0.9, 0.3)
    visual = sc.overlay(subject, subject.images[1], ordinal=1)
    card = sc.card(subject, ordinal=2)
    for built in (visual, card, sr.build(subject, visuals=[visual])):
        assert errors_of(built) == []


def test_every_kind_of_result_of_a_series_is_valid(make: Any, errors_of: Judge) -> None:
    subject = of_series(make, 0.2, 0.9, 0.3)
    route = Route(name="ct", bundle="b", mode="shadow", frames="every:4", results=list(report.BUILDERS))
    made: dict[str, list[Dataset]] = {}
    for kind, builder in report.BUILDERS.items():
        made[kind] = [draft.ds for draft in builder(subject, route, made)]
        for built in made[kind]:
            assert errors_of(built) == [], kind
            assert built.SeriesDescription.startswith("AI "), kind
    assert len({objects[0].SeriesInstanceUID for objects in made.values() if objects}) == sum(map(bool, made.values()))


def test_each_frame_is_tracked_and_referred_to_by_its_number(make: Any, groups_of: Any) -> None:
    subject = of_series(make, 0.6, 0.9, 0.7)
    built = sr.build(subject, visuals=[sc.overlay(subject, subject.images[1], ordinal=1)])
    groups = groups_of(built)
    assert len({g["uid"] for g in groups}) == len(groups) == 1 + 1 + 2 * 3
    (measured,) = [i for i in built.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"]
    sources = [
        int(item.ReferencedSOPSequence[0].ReferencedFrameNumber)
        for group in measured.ContentSequence
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121112"
    ]
    assert sources == [1, 5, 9, 1, 5, 9, 1, 1, 5, 5, 9, 9]


def test_what_is_absent_from_a_slice_stands_in_the_groups_about_the_series_only(make: Any, groups_of: Any) -> None:
    tracked = [g["tracking"] for g in groups_of(sr.build(of_series(make, 0.2, 0.9, 0.4)))]
    assert tracked.count("Series: Mass") == 1 and tracked.count("Analysis status") == 3
    assert tracked.count("Mass") == 2  # the present and the undetermined one
    alone = [g["tracking"] for g in groups_of(sr.build(of_series(make, 0.2, frames=(5,))))]
    assert alone == ["Series: Analysis status", "Analysis status", "Mass"]


def test_the_library_names_an_object_once_with_its_frames(make: Any) -> None:
    built = sr.build(of_series(make, 0.2, 0.9, 0.3))
    (library,) = [i for i in built.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "111028"]
    (entry,) = [i for i in library.ContentSequence[0].ContentSequence if i.ValueType == "IMAGE"]
    assert list(entry.ReferencedSOPSequence[0].ReferencedFrameNumber) == [1, 5, 9]


def test_only_the_frame_that_is_drawn_refers_to_its_picture(make: Any, groups_of: Any) -> None:
    subject = of_series(make, 0.7, 0.9, 0.3)
    visual = sc.overlay(subject, subject.images[1], ordinal=1)
    groups = groups_of(sr.build(subject, visuals=[visual]))
    explained = [g["tracking"] for g in groups if any(name == "Visual explanation" for name, _ in g["images"])]
    assert explained == ["Series: Mass", "Mass"]
    with_picture = [g["uid"] for g in groups if any(name == "Visual explanation" for name, _ in g["images"])]
    assert with_picture[1] == uids.tracking_uid(subject.images[1].name, "Mass")


def test_the_report_says_what_was_read_and_speaks_of_a_series(make: Any) -> None:
    text = sr.as_text(sr.build(of_series(make, 0.2, 0.9, 0.3)))
    assert SENTENCE in text
    assert "Series: Succeeded" in text
    assert "series: Lung mass" in text
    assert "Series level: the highest calibrated probability of the 3 images analysed, that of frame 5 of image" in text
    assert "frame 5 (Enhanced CT Image Storage): Succeeded" in text
    assert "Study:" not in text and "study:" not in text


def test_one_image_of_a_series_has_the_sentence_too(make: Any) -> None:
    text = sr.as_text(sr.build(of_series(make, 0.9, frames=(5,))))
    assert SENTENCE in text and "1 of 1 images were analysed." in text


def test_a_picture_names_its_frame_and_a_card_all_of_them(make: Any) -> None:
    subject = of_series(make, 0.2, 0.9, 0.3)
    (item,) = sc.overlay(subject, subject.images[1], ordinal=1).SourceImageSequence
    assert item.ReferencedFrameNumber == 5
    (item,) = sc.card(subject, ordinal=1).ReferencedImageSequence
    assert list(item.ReferencedFrameNumber) == [1, 5, 9]


def test_another_choice_gives_another_name(make: Any) -> None:
    subject = of_series(make, 0.2, 0.9, 0.3)
    other = dataclasses.replace(subject, choice=SENTENCE.replace("12", "13"))
    assert sr.build(subject).SOPInstanceUID != sr.build(other).SOPInstanceUID
    assert sr.build(subject).SeriesInstanceUID == sr.build(other).SeriesInstanceUID


def test_two_series_of_a_study_do_not_share_a_series_of_results(make: Any) -> None:
    subject = of_series(make, 0.9, frames=(5,))
    other = dataclasses.replace(subject, series_instance_uid="1.2.3")
    assert sr.build(subject).SeriesInstanceUID != sr.build(other).SeriesInstanceUID


def test_the_description_of_a_series_fits_whatever_the_model_is_called(make: Any, errors_of: Judge) -> None:
    subject = of_series(make, 0.9, frames=(5,))
    for image in subject.images:
        image.source.SeriesNumber = 2147483647
    long = dataclasses.replace(subject, model=dataclasses.replace(subject.model, name="m" * 64))
    built = sc.card(long, ordinal=1)
    assert len(built.SeriesDescription) <= 64
    assert built.SeriesDescription.endswith("series 2147483647 - RESEARCH USE ONLY")
    assert errors_of(built) == []
