from pathlib import Path

import pytest
from folders_made import touch, write

from training.sources import SourceError, covid_metadata, covid_mpdem

HEADER = "patientid,sex,age,finding,view,modality,folder,filename"


def collection(tmp_path: Path) -> Path:
    touch(tmp_path, "images/a.jpg", "images/b.png", "images/c.jpg", "volumes/d.nii.gz")
    write(
        tmp_path / "metadata.csv",
        HEADER,
        "2,M,65,Pneumonia/Viral/COVID-19,AP Supine,X-ray,images,a.jpg",
        '3,F,,"COVID-19, ARDS",L,X-ray,images,b.png',
        "4,,41.5,todo,PA,X-ray,images,c.jpg",
        "5,,,No Finding,Axial,CT,volumes,d.nii.gz",
    )
    return tmp_path


def test_each_level_of_a_finding_is_a_label_and_an_unknown_one_is_none(tmp_path: Path) -> None:
    first, second, third = covid_metadata(collection(tmp_path))
    assert (first.labels, first.view) == ({"Pneumonia", "Viral", "COVID-19"}, "AP")
    assert (second.labels, second.view, second.age) == ({"COVID-19", "ARDS"}, "LATERAL", None)
    assert (third.labels, third.age, third.sex, third.patient) == (set(), 41.5, "", "4")


def test_another_modality_is_taken_by_its_name(tmp_path: Path) -> None:
    (item,) = covid_metadata(collection(tmp_path), modality="CT")
    assert (item.path, item.labels) == (tmp_path / "volumes" / "d.nii.gz", {"No Finding"})
    with pytest.raises(SourceError, match=r"modality = 'MR': no row has it \(have: CT, X-ray\)"):
        covid_metadata(tmp_path, modality="MR")


def test_missing_files_of_the_collection_are_an_error(tmp_path: Path) -> None:
    (collection(tmp_path) / "images" / "b.png").unlink()
    with pytest.raises(SourceError, match=r"1 of 3 images are missing, the first is .*b\.png"):
        covid_metadata(tmp_path)


def mpdem(tmp_path: Path, *more: str) -> Path:
    touch(tmp_path, "covid/a.jpg", "normal/n.jpeg")
    write(tmp_path / "metadata.csv", HEADER, "2,M,65,COVID-19,PA,X-ray,images,a.jpg")
    rows = ("covid/a.jpg,covid,ieee8023-2,adult", "normal/n.jpeg,normal,kermany-IM-1,child", *more)
    write(tmp_path / "labels.csv", "filename,label,patient_id,origin", *rows)
    return tmp_path


def test_age_sex_and_view_are_known_of_the_covid_films_only(tmp_path: Path) -> None:
    sick, well = covid_mpdem(mpdem(tmp_path))
    assert (sick.labels, sick.patient, sick.age, sick.sex, sick.view) == ({"COVID-19"}, "ieee8023-2", 65, "M", "PA")
    assert (well.labels, well.patient, well.age, well.sex) == ({"No Finding"}, "kermany-IM-1", None, "")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("covid/b.jpg,covid,ieee8023-3,adult", r"metadata\.csv: has no row for b\.jpg"),
        ("normal/b.jpg,healthy,kermany-IM-2,child", r"b\.jpg: label = 'healthy': not one of covid, normal"),
        ("normal/b.jpg,normal,kermany-IM-2,child", r"1 of 3 images are missing"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        covid_mpdem(mpdem(tmp_path, row))
