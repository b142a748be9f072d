import gzip
from pathlib import Path

import pytest
from folders_made import NIH_HEADER, nih_row, touch, write

from training.manifest import Box
from training.sources import SourceError, nih, nih1000, nih_adleberg, nih_table

FILMS = ("00000001_000.png", "00000001_001.png", "00000002_000.png")


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    folder = tmp_path / "metadata"
    rows = [
        nih_row(FILMS[0], "Cardiomegaly|Effusion"),
        nih_row(FILMS[1], "No Finding", age="059Y", view="AP"),
        nih_row(FILMS[2], "Infiltration", age="414", sex="F"),
    ]
    write(folder / "Data_Entry_2017.csv", NIH_HEADER, *rows)
    return folder


@pytest.fixture
def download(metadata: Path) -> Path:
    touch(metadata, f"images_001/images/{FILMS[0]}", f"images_002/{FILMS[1]}", f"images/{FILMS[2]}")
    write(metadata / "train_val_list.txt", FILMS[0], FILMS[1])
    write(metadata / "test_list.txt", FILMS[2])
    return metadata


def test_the_download_gives_labels_patients_and_the_official_parts(download: Path) -> None:
    first, second, third = nih(download)
    assert (first.labels, first.patient, first.part) == ({"Cardiomegaly", "Effusion"}, "00000001", "train")
    assert (second.labels, second.view, second.age, second.sex) == ({"No Finding"}, "AP", 59, "M")
    assert (third.part, third.patient, third.sex, third.age) == ("test", "00000002", "F", None)
    assert {i.source for i in (first, second, third)} == {"nih"} and not first.weak and not first.boxes


def test_a_partial_download_gives_the_films_that_are_there(download: Path) -> None:
    (download / "images" / FILMS[2]).unlink()
    assert [i.path.name for i in nih(download)] == list(FILMS[:2])


def test_without_films_or_without_the_table_nothing_is_read(metadata: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no PNG files below images/"):
        nih(metadata)
    with pytest.raises(SourceError, match=r"has no Data_Entry_2017\.csv"):
        nih(touch(tmp_path / "films", f"images/{FILMS[0]}"))


def test_a_film_without_a_row_is_named(download: Path) -> None:
    touch(download, "images/00000009_000.png")
    with pytest.raises(SourceError, match=r"1 films have no row .* 00000009_000\.png"):
        nih(download)


def test_a_film_in_no_list_or_in_both_is_named(download: Path) -> None:
    write(download / "test_list.txt", FILMS[0], FILMS[2])
    with pytest.raises(SourceError, match=f"{FILMS[0]} is in the other list too"):
        nih(download)
    (download / "test_list.txt").unlink()
    with pytest.raises(SourceError, match=rf"1 films are in no list .* {FILMS[2]}"):
        nih(download)


def test_without_lists_there_are_no_parts(download: Path) -> None:
    (download / "train_val_list.txt").unlink()
    (download / "test_list.txt").unlink()
    assert {i.part for i in nih(download)} == {""}


def test_boxes_are_parts_of_the_frame(download: Path) -> None:
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    rows = [f"{FILMS[2]},Infiltrate,256,512,128,64", f"{FILMS[2]},Infiltrate,0,0,1024,1024"]
    write(download / "BBox_List_2017.csv", header, *rows)
    assert nih(download)[2].boxes == (Box("Infiltration", 0.25, 0.5, 0.125, 0.0625), Box("Infiltration", 0, 0, 1, 1))


def test_the_revised_table_is_taken_before_the_first_one_also_when_packed(metadata: Path) -> None:
    text = "\n".join([NIH_HEADER.replace("Gender", "Sex"), nih_row(FILMS[0], "Hernia")])
    (metadata / "Data_Entry_2017_v2020.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert nih_table(metadata)["00000001_000"].labels == {"Hernia"}


def adleberg(tmp_path: Path) -> Path:
    folder = touch(tmp_path / "adleberg", *(f"images/{Path(n).stem}.jpg" for n in FILMS))
    write(
        folder / "labels.csv",
        "filename,height,width,label,xmin,ymin,xmax,ymax,view",
        "00000001_000.jpg,2992,2991,Cardiomegaly,256.0,512.0,512.0,1024.0,PA",
        "00000001_001.jpg,2992,2991,No Finding,,,,,AP",
        "00000002_000.jpg,2992,2991,Infiltrate,0,0,1024,1024,PA",
        "00000002_000.jpg,2992,2991,Mass,0,0,512,512,PA",
    )
    return folder


def test_boxed_labels_are_sure_and_mined_ones_are_weak(tmp_path: Path, metadata: Path) -> None:
    heart, none, both = nih_adleberg(adleberg(tmp_path), metadata)
    assert (heart.labels, heart.weak, heart.patient) == ({"Cardiomegaly"}, {"Effusion"}, "00000001")
    assert heart.boxes == (Box("Cardiomegaly", 0.25, 0.5, 0.25, 0.5),)
    assert (none.labels, none.weak, none.boxes, none.age, none.sex) == ({"No Finding"}, set(), (), 59, "M")
    assert both.labels == {"Infiltration", "Mass"} and len(both.boxes) == 2 and not both.weak


def test_a_film_that_is_boxed_although_the_text_says_no_finding_is_not_weakly_healthy(tmp_path: Path) -> None:
    write(tmp_path / "Data_Entry_2017.csv", NIH_HEADER, *(nih_row(name, "No Finding") for name in FILMS))
    assert not nih_adleberg(adleberg(tmp_path), tmp_path)[0].weak


def test_without_nih_s_table_the_copy_says_view_and_patient(tmp_path: Path) -> None:
    heart, none, _ = nih_adleberg(adleberg(tmp_path))
    assert (heart.patient, heart.view, heart.age, heart.sex, heart.weak) == ("00000001", "PA", None, "", set())
    assert none.view == "AP"


def test_a_film_that_nih_s_table_does_not_know_or_without_a_number_is_named(tmp_path: Path, metadata: Path) -> None:
    folder = touch(tmp_path / "strange", "images/film_1.jpg")
    write(folder / "labels.csv", "filename,label,xmin,ymin,xmax,ymax,view", "film_1.jpg,Mass,0,0,1,1,PA")
    with pytest.raises(SourceError, match=r"film_1\.jpg: has no row in NIH's table"):
        nih_adleberg(folder, metadata)
    with pytest.raises(SourceError, match=r"film_1\.jpg: the name does not begin with the patient's eight digits"):
        nih_adleberg(folder)


def small(tmp_path: Path) -> Path:
    folder = touch(tmp_path / "small", f"0_normal/{FILMS[0]}", f"0_normal/{FILMS[1]}", f"1_abnormal/{FILMS[2]}")
    write(
        folder / "labels.csv",
        "filename,label,patient_id,nih_labels,view,source_split,also_in_nih_adleberg",
        f"0_normal/{FILMS[0]},normal,1,Cardiomegaly|Effusion,PA,test,True",
        f"0_normal/{FILMS[1]},normal,1,No Finding,AP,test,False",
        f"1_abnormal/{FILMS[2]},abnormal,2,Infiltration,PA,train,False",
    )
    return folder


@pytest.mark.parametrize("given", [True, False])
def test_nih_s_labels_win_over_the_folder_normal(tmp_path: Path, metadata: Path, given: bool) -> None:
    items = nih1000(small(tmp_path), metadata if given else None)
    assert [set(i.labels) for i in items] == [{"Cardiomegaly", "Effusion"}, {"No Finding"}, {"Infiltration"}]
    assert [i.sex for i in items] == (["M", "M", "F"] if given else ["", "", ""])


def test_a_patient_is_the_same_in_every_copy(tmp_path: Path, download: Path) -> None:
    groups = [
        {i.group for i in some} for some in (nih(download), nih_adleberg(adleberg(tmp_path)), nih1000(small(tmp_path)))
    ]
    assert groups == [{"nih/00000001", "nih/00000002"}] * 3


def test_films_that_are_in_both_copies_can_be_left_out(tmp_path: Path) -> None:
    assert [i.path.name for i in nih1000(small(tmp_path), skip_adleberg=True)] == list(FILMS[1:])
