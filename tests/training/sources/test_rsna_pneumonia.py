import json
from pathlib import Path

import pytest
from folders_made import write, write_dicom

from training.manifest import Box
from training.sources import SourceError, rsna

TABLE = "stage_2_train_labels.csv"
CLASSES, MAPPING = "stage_2_detailed_class_info.csv", "pneumonia-challenge-dataset-mappings_2018.json"
OTHER = "No Lung Opacity / Not Normal"


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    for number, name in enumerate(("aa", "bb", "cc")):
        path = tmp_path / "stage_2_train_images" / f"{name}.dcm"
        write_dicom(path, f"1.2.{number}", PatientID=name, PatientAge="51", PatientSex="F", ViewPosition="AP")
    rows = ("aa,20,10,100,50,1", "aa,0,0,200,100,1", "bb,,,,,0", "cc,,,,,0")
    write(tmp_path / TABLE, "patientId,x,y,width,height,Target", *rows)
    return tmp_path


def classes(folder: Path, *words: str) -> None:
    write(folder / CLASSES, "patientId,class", *(f"{n},{w}" for n, w in zip(("aa", "bb", "cc"), words, strict=True)))


def test_a_target_is_a_label_and_boxes_are_parts_of_the_film(challenge: Path) -> None:
    sick, well, _ = rsna(challenge)
    assert (sick.labels, well.labels) == ({"Pneumonia"}, {"No Pneumonia"})
    assert sick.boxes == (Box("Pneumonia", 0.1, 0.1, 0.5, 0.5), Box("Pneumonia", 0, 0, 1, 1))
    assert (sick.age, sick.sex, sick.view) == (51, "F", "AP")


def test_the_detailed_classes_tell_healthy_films_from_those_with_other_findings(challenge: Path) -> None:
    classes(challenge, "Lung Opacity", "Normal", OTHER)
    assert [set(i.labels) for i in rsna(challenge)] == [{"Pneumonia"}, {"No Finding"}, {OTHER}]


@pytest.mark.parametrize("words", [("Normal", "Normal", OTHER), ("Lung Opacity", "Lung Opacity", OTHER)])
def test_tables_that_disagree_are_an_error(challenge: Path, words: tuple[str, ...]) -> None:
    classes(challenge, *words)
    with pytest.raises(SourceError, match="does not agree with stage_2_detailed_class_info"):
        rsna(challenge)


def test_an_unknown_class_is_named(challenge: Path) -> None:
    classes(challenge, "Lung Opacity", "Fine", OTHER)
    with pytest.raises(SourceError, match="bb: class = 'Fine': not one of Normal, Lung Opacity"):
        rsna(challenge)


def test_an_id_of_the_challenge_is_no_patient(challenge: Path) -> None:
    assert {(i.patient, i.source) for i in rsna(challenge)} == {("", "rsna")}


def test_with_rsna_s_mapping_patients_are_nih_s(challenge: Path) -> None:
    named = {"aa": "00000013_005.png", "bb": "00000013_006.png", "cc": "00000014_000.png"}
    entries = [{"subset_img_id": name, "img_id": film} for name, film in named.items()]
    (challenge / MAPPING).write_text(json.dumps(entries))
    assert [i.group for i in rsna(challenge)] == ["nih/00000013", "nih/00000013", "nih/00000014"]
    (challenge / MAPPING).write_text(json.dumps(entries[:2]))
    with pytest.raises(SourceError, match="has no entry for cc"):
        rsna(challenge)
    (challenge / MAPPING).write_text('{"aa": 1}')
    with pytest.raises(SourceError, match="is no list of subset_img_id and img_id"):
        rsna(challenge)


def test_missing_films_and_targets_are_named(challenge: Path) -> None:
    write(challenge / TABLE, "patientId,x,y,width,height,Target", "aa,,,,,yes")
    with pytest.raises(SourceError, match="aa: Target = 'yes': not 0 or 1"):
        rsna(challenge)
    write(challenge / TABLE, "patientId,x,y,width,height,Target", "aa,,,,,0", "dd,,,,,0")
    with pytest.raises(SourceError, match=r"1 of 2 images are missing, the first is .*dd\.dcm"):
        rsna(challenge)
