from pathlib import Path

import pytest
from folders_made import touch, write

from training.sources import SOURCES, SourceError, detect

PUBLISHED = {
    "nih": ("Data_Entry_2017_v2020.csv", "images_001/images/00000001_000.png"),
    "nih_adleberg": ("labels.csv", "images/00000001_000.jpg"),
    "nih1000": ("labels.csv", "0_normal/00000001_000.png", "1_abnormal/00000001_001.png"),
    "hello_world": ("labels.csv", "abd/a.png", "chst/b.png"),
    "tiles": ("labels.csv", "HeadCT/a.jpeg", "BreastMRI/a.jpeg", "Hand/a.jpeg"),
    "covid_mpdem": ("labels.csv", "metadata.csv", "covid/a.jpg", "normal/b.jpeg"),
    "covid_metadata": ("metadata.csv", "images/a.jpg"),
    "pediatric_pneumonia": ("train/NORMAL/IM-0001-0001.jpeg", "train/PNEUMONIA/person1_virus_1.jpeg"),
    "rsna": ("stage_2_train_labels.csv", "stage_2_train_images/a.dcm"),
    "sars_ct": ("COVID/a.png", "non-COVID/b.png"),
    "node": ("spool/obj/ab/x.y.z.dcm",),
}
ANYBODYS = {
    "labels_csv": ("filename,label", "a.png,Mass"),
    "dicom": ("accession_number,label", "A1,Mass"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_folder_is_known_by_its_files(tmp_path: Path, name: str) -> None:
    assert detect(touch(tmp_path, *PUBLISHED[name])) == name


@pytest.mark.parametrize("name", ANYBODYS)
def test_a_table_tells_what_its_folder_is(tmp_path: Path, name: str) -> None:
    write(tmp_path / "labels.csv", *ANYBODYS[name])
    assert detect(touch(tmp_path, "chest/a.png", "hand/b.dcm")) == name


@pytest.mark.parametrize("names", [("chest/a.png", "hand/b.png"), ("train/chest/a.png", "test/hand/b.png")])
def test_folders_of_two_classes_are_class_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert detect(touch(tmp_path, *names)) == "folders"


def test_every_source_is_detected_by_something() -> None:
    assert {*PUBLISHED, *ANYBODYS, "folders"} == set(SOURCES)


def test_a_folder_like_none_or_like_several_is_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"looks like no source.*folders, labels_csv, nih"):
        detect(touch(tmp_path / "none", "chest/a.png"))
    both = touch(tmp_path / "both", *PUBLISHED["rsna"], *PUBLISHED["hello_world"])
    with pytest.raises(SourceError, match="looks like hello_world and rsna; say which"):
        detect(both)
    with pytest.raises(SourceError, match="nowhere: is missing"):
        detect(tmp_path / "nowhere")


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_says_that_its_folder_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        SOURCES[name](tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "holds no image"),
        (["one/a.png"], "two folders of images, one for each class"),
        (["labels.csv", "a.png"], r"its labels\.csv has no column filename or "),
        (["one/a.png", "__MACOSX/b/._a.png"], "two folders of images"),
    ],
)
def test_what_a_folder_lacks_is_said(tmp_path: Path, files: list[str], said: str) -> None:
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("name,label\na,Mass\n")
    with pytest.raises(SourceError, match=said):
        detect(tmp_path)
