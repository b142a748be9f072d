from pathlib import Path

import pytest
from folders_made import touch, write

from training.sources import SourceError, hello_world, labels_csv


def test_labels_come_from_several_rows_or_are_joined_by_a_bar(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "x/b.png")
    write(tmp_path / "labels.csv", "filename,label", "a.png,Mass", "x/b.png,Edema|Mass", "a.png,Hernia")
    assert [(i.path.name, set(i.labels)) for i in labels_csv(tmp_path)] == [
        ("a.png", {"Mass", "Hernia"}),
        ("b.png", {"Edema", "Mass"}),
    ]


def test_patient_view_age_and_sex_are_read_where_they_are(tmp_path: Path) -> None:
    touch(tmp_path / "mine", "a.png", "b.png")
    write(
        tmp_path / "mine/labels.csv", "filename,labels,patient_id,view,age,sex", "a.png,Mass,7,pa,061Y,f", "b.png,Mass"
    )
    first, second = labels_csv(tmp_path / "mine")
    assert (first.source, first.patient, first.view, first.age, first.sex) == ("mine", "7", "PA", 61, "F")
    assert (second.patient, second.view, second.age, second.sex) == ("", "", None, "")


def test_rows_of_one_film_that_contradict_one_another_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    write(tmp_path / "labels.csv", "filename,label,patient_id", "a.png,Mass,7", "a.png,Edema,8")
    with pytest.raises(SourceError, match=r"a\.png: its rows differ in patient_id: '7', '8'"):
        labels_csv(tmp_path)


def test_missing_files_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    write(tmp_path / "labels.csv", "filename,label", "a.png,Mass", "b.png,Mass", "c.png,Mass")
    with pytest.raises(SourceError, match=r"2 of 3 images are missing, the first is .*b\.png"):
        labels_csv(tmp_path)


def test_a_row_without_a_label_or_a_table_without_labels_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    write(tmp_path / "labels.csv", "filename,label", "a.png,")
    with pytest.raises(SourceError, match=r"a\.png: the label '' is empty"):
        labels_csv(tmp_path)
    write(tmp_path / "labels.csv", "filename,class", "a.png,Mass")
    with pytest.raises(SourceError, match=r"no column label or labels \(has: filename, class\)"):
        labels_csv(tmp_path)


def test_hello_world_is_named_so_wherever_it_lies(tmp_path: Path) -> None:
    touch(tmp_path, "abd/a.png")
    write(tmp_path / "labels.csv", "filename,label,source_path,source_split", "abd/a.png,abdomen,x,train")
    (item,) = hello_world(tmp_path)
    assert (item.source, item.labels, item.patient, item.part) == ("hello_world", {"abdomen"}, "", "")
