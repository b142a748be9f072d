from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, MultiFrameGrayscaleByteSecondaryCaptureImageStorage

from node.errors import ResultError
from node.results import gsps, sr, uids
from node.results.header import RESEARCH_ONLY, our_texts

Judge = Callable[[Dataset], list[str]]


def state_of(subject: Any, *, ordinal: int = 1) -> Dataset:
    return gsps.build(subject, subject.images[0], ordinal=ordinal)


def flagged(make: Any, **changes: Any) -> Any:
    """One image with a present finding; `changes` are those of its header."""
    return make.subject(make.image(make.analysed(make.finding("Pneumothorax", 0.8317)), **changes))


def words(ds: Dataset) -> str:
    texts = ds.GraphicAnnotationSequence[0].TextObjectSequence
    return "\r\n".join(item.UnformattedTextValue for item in texts)


def test_a_presentation_state_is_valid_and_belongs_to_the_study(make: Any, errors_of: Judge) -> None:
    built = state_of(make.flagged())
    assert errors_of(built) == []
    film = make.film()
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber", "StudyDate"):
        assert built[keyword].value == film[keyword].value
    assert (built.Modality, built.SeriesNumber) == ("PR", 9003)
    assert built.SeriesDescription == "AI annotation, chest-findings - RESEARCH USE ONLY"
    assert (built.PresentationCreationDate, built.PresentationCreationTime) == ("20260301", "101530")
    (series,) = built.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == film.SeriesInstanceUID
    assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == film.SOPInstanceUID


def test_it_says_all_that_was_found_by_which_model_and_for_what(make: Any) -> None:
    built = state_of(make.flagged(audit_note="This model was not audited", shadow=True))
    lines = words(built).split("\r\n")
    assert lines[:3] == ["Pneumothorax 83.2 % (present from 50.0 %)", RESEARCH_ONLY, "AI: chest-findings 1.0.0"]
    said = " ".join(lines)
    assert "This model was not audited Shadow route: not delivered." in said
    assert "Undetermined: Pleural effusion 41.0 %. Below threshold: Lung mass. Nothing else was looked for." in said
    assert "Line: where the model looked for Pneumothorax, not its outline." in said
    (layer,) = built.GraphicLayerSequence
    assert layer.GraphicLayer == built.GraphicAnnotationSequence[0].GraphicLayer == "AI_RESEARCH"
    assert RESEARCH_ONLY in layer.GraphicLayerDescription


@pytest.mark.parametrize("name", ["Doe^John", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Lung^Mass"])
def test_nothing_of_the_patient_is_in_its_texts(make: Any, name: str, errors_of: Judge) -> None:
    built = state_of(flagged(make, SpecificCharacterSet="ISO_IR 192", PatientName=name))
    assert built.PatientName == name
    said = " ".join(value for _, value in our_texts(built))
    for secret in ("Doe", "John", "Yamada", "山田", "PID", "1970", "ACC12345"):
        assert secret not in said
    assert errors_of(built) == []


def test_the_line_lies_where_the_model_looked_in_pixels_of_the_whole_film(make: Any) -> None:
    grid = np.zeros((10, 10), np.float32)
    grid[6:9, 1:3] = 1
    reading = dataclasses.replace(make.analysed(make.finding("Mass", 0.9)), saliency={"Mass": grid})
    # The frame that the model saw is smaller than the film
    image = make.image(reading, Rows=2000, Columns=1000, pixels=make.frame(200, 100))
    built = state_of(make.subject(image))
    (line,) = built.GraphicAnnotationSequence[0].GraphicObjectSequence
    points = np.array(line.GraphicData).reshape(-1, 2)
    assert (line.GraphicAnnotationUnits, line.GraphicType, line.GraphicFilled) == ("PIXEL", "POLYLINE", "N")
    assert line.NumberOfGraphicPoints == len(points)
    assert np.array_equal(points[0], points[-1])
    assert points.min(axis=0) == pytest.approx([100, 1200], abs=25)
    assert points.max(axis=0) == pytest.approx([300, 1800], abs=25)
    assert (line.TrackingID, line.TrackingUID) == ("Mass", uids.tracking_uid(image.source.SOPInstanceUID, "Mass"))


def test_the_line_is_that_of_the_most_certain_finding_as_in_the_picture(make: Any) -> None:
    reading = make.analysed(make.finding("Mass", 0.6), make.finding("Effusion", 0.9))
    built = state_of(make.subject(make.image(reading)))
    tracked = {item.TrackingID for item in built.GraphicAnnotationSequence[0].GraphicObjectSequence}
    assert tracked == {"Effusion"}
    assert "looked for Pleural effusion" in " ".join(words(built).split())


@pytest.mark.parametrize("saliency", [{}, {"Mass": np.zeros((7, 7), np.float32)}])
def test_without_a_map_or_in_a_flat_one_there_are_words_and_no_line(
    make: Any, errors_of: Judge, saliency: dict[str, Any]
) -> None:
    reading = dataclasses.replace(make.analysed(make.finding("Mass", 0.9)), saliency=saliency)
    built = state_of(make.subject(make.image(reading)))
    assert "GraphicObjectSequence" not in built.GraphicAnnotationSequence[0]
    assert "No line is drawn." in words(built)
    assert errors_of(built) == []


def test_more_words_than_one_text_object_holds_are_several(make: Any, errors_of: Judge) -> None:
    built = state_of(make.flagged(audit_note="This is a long note. " * 60))
    texts = built.GraphicAnnotationSequence[0].TextObjectSequence
    assert len(texts) > 1 and all(len(item.UnformattedTextValue) <= 1024 for item in texts)
    assert " ".join(words(built).split()).count("This is a long note.") == 60
    assert errors_of(built) == []


def test_the_grey_of_the_film_is_repeated(make: Any, errors_of: Judge) -> None:
    subject = flagged(
        make, WindowCenter=["2048", "100"], WindowWidth=["4096", "50"], VOILUTFunction="SIGMOID", RescaleSlope="2",
        RescaleIntercept="-5", RescaleType="HU",
    )  # fmt: skip
    built = state_of(subject)
    (voi,) = built.SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction) == (2048, 4096, "SIGMOID")
    assert (built.RescaleSlope, built.RescaleIntercept, built.RescaleType) == (2, -5, "HU")
    assert built.PresentationLUTShape == "IDENTITY"
    assert errors_of(built) == []


def table(first: int = 0) -> Dataset:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [256, first, 8], bytes(range(256))
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


def test_look_up_tables_of_the_film_are_repeated(make: Any, errors_of: Judge) -> None:
    modality = table()
    modality.ModalityLUTType = "US"
    built = state_of(flagged(make, ModalityLUTSequence=[modality], VOILUTSequence=[table(), table(10)]))
    assert built.ModalityLUTSequence[0].LUTData == bytes(range(256))
    (voi,) = built.SoftcopyVOILUTSequence
    assert [list(item.LUTDescriptor) for item in voi.VOILUTSequence] == [[256, 0, 8]]
    assert "WindowCenter" not in voi
    assert errors_of(built) == []


@pytest.mark.parametrize(
    "window", [{}, {"WindowCenter": "1", "WindowWidth": "0"}, {"WindowCenter": "1"}, {"WindowWidth": "100"}]
)
def test_a_film_without_a_usable_window_gets_none(make: Any, errors_of: Judge, window: dict[str, str]) -> None:
    built = state_of(flagged(make, **window))
    assert "SoftcopyVOILUTSequence" not in built
    assert errors_of(built) == []


def test_white_stays_white_where_the_smallest_value_is(make: Any, errors_of: Judge) -> None:
    built = state_of(flagged(make, PhotometricInterpretation="MONOCHROME1"))
    assert built.PresentationLUTShape == "INVERSE"
    assert errors_of(built) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
        {"Rows": None},
        {"SOPClassUID": EnhancedCTImageStorage, "NumberOfFrames": 3},
    ],
)
def test_a_film_that_is_not_stored_as_grey_or_does_not_say_how_it_is_shown_has_none(
    make: Any, changes: dict[str, Any]
) -> None:
    subject = flagged(make, **changes)
    assert not gsps.can_show(subject.images[0])
    with pytest.raises(ResultError, match="grey image"):
        state_of(subject)


@pytest.mark.parametrize(
    ("spacing", "aspect"),
    [
        ({}, [1, 1]),
        ({"ImagerPixelSpacing": ["0.2", "0.1"]}, [2, 1]),
        ({"PixelSpacing": ["0.143", "0.143"]}, [1, 1]),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": [4, 3]}, [4, 3]),
        ({"ImagerPixelSpacing": ["0", "0"]}, [1, 1]),
    ],
)
def test_pixels_keep_their_shape(make: Any, errors_of: Judge, spacing: dict[str, Any], aspect: list[int]) -> None:
    built = state_of(flagged(make, **spacing))
    (area,) = built.DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelAspectRatio) == aspect
    assert list(area.DisplayedAreaBottomRightHandCorner) == [6, 8]
    assert errors_of(built) == []


def test_a_frame_of_many_is_named_wherever_the_image_is(make: Any, errors_of: Judge) -> None:
    multi = {"NumberOfFrames": 5, "SOPClassUID": MultiFrameGrayscaleByteSecondaryCaptureImageStorage}
    third = dataclasses.replace(make.frame(), number=3, frames_used="middle")
    built = state_of(make.subject(make.image(make.analysed(make.finding("Mass", 0.9)), pixels=third, **multi)))
    numbers = [elem.value for elem in built.iterall() if elem.keyword == "ReferencedFrameNumber"]
    assert numbers == [3, 3]
    assert errors_of(built) == []
    plain = state_of(make.flagged())
    assert not [elem for elem in plain.iterall() if elem.keyword == "ReferencedFrameNumber"]


def test_the_same_job_gives_the_same_bytes_and_a_revision_others(make: Any, as_bytes: Any) -> None:
    subject = make.flagged()
    assert as_bytes(state_of(subject)) == as_bytes(state_of(subject))
    revised = state_of(dataclasses.replace(subject, revision=2))
    first = state_of(subject)
    assert revised.SOPInstanceUID != first.SOPInstanceUID
    assert revised.SeriesInstanceUID == first.SeriesInstanceUID != sr.build(subject).SeriesInstanceUID
    assert len({first.SOPInstanceUID, state_of(subject, ordinal=2).SOPInstanceUID}) == 2


def test_a_label_that_is_not_ascii_moves_the_object_to_utf_8(make: Any, errors_of: Judge) -> None:
    found = make.finding("Mass", 0.9)
    named = dataclasses.replace(found, finding=dataclasses.replace(found.finding, meaning="Raumforderung ≥ 3 cm 肺"))
    built = state_of(make.subject(make.image(make.analysed(named), SpecificCharacterSet=None)))
    assert built.SpecificCharacterSet == "ISO_IR 192"
    assert "肺" in words(built)
    assert errors_of(built) == []


@pytest.mark.dcmtk
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dcmtk_shows_the_film_as_without_it(
    make: Any, as_bytes: Any, program: Callable[[str], str], tmp_path: Path, photometric: str
) -> None:
    changes = {"PhotometricInterpretation": photometric, "WindowCenter": "24", "WindowWidth": "48"}
    film = make.film(**changes, PixelData=bytes(range(48)))
    source, state = make.file(film), tmp_path / "state.dcm"
    state.write_bytes(as_bytes(state_of(flagged(make, **changes))))
    source = make.file(film)
    shown = {}
    for name, options in (("with", ["-p", str(state)]), ("without", [])):
        target = tmp_path / f"{name}.pgm"
        subprocess.run([program("dcmp2pgm"), *options, str(source), str(target)], check=True, timeout=60)
        shown[name] = np.frombuffer(target.read_bytes()[-48:], np.uint8).astype(int)
    assert np.abs(shown["with"] - shown["without"]).max() <= 1
    assert bool(shown["with"][0] > shown["with"][-1]) == (photometric == "MONOCHROME1")
