from collections import Counter
from pathlib import Path

import pytest
from folders_made import touch

from training.sources import SourceError, folders, sars_ct, tiles, unlabelled


def test_the_class_is_the_folder_also_below_splits_and_above_other_folders(tmp_path: Path) -> None:
    folder = touch(tmp_path / "set", "train/sick/a.png", "Test/sick/b.JPG", "healthy/p1/c.dcm", "README.md")
    items = folders(folder)
    assert {i.path.name: set(i.labels) for i in items} == {"a.png": {"sick"}, "b.JPG": {"sick"}, "c.dcm": {"healthy"}}
    assert {(i.source, i.patient, i.part) for i in items} == {("set", "", "")}


@pytest.mark.parametrize("name", ["a.png", "train/a.png"])
def test_an_image_in_no_class_folder_is_an_error(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "sick/b.png", name)
    with pytest.raises(SourceError, match=r"a\.png: lies in no class folder"):
        folders(tmp_path)


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere: is missing"):
        folders(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"holds no image .*\.png"):
        folders(touch(tmp_path, "sick/a.tif"))


def test_images_of_one_folder_can_be_taken_without_labels(tmp_path: Path) -> None:
    items = unlabelled(touch(tmp_path / "knees", "a.png", "more/b.png"))
    assert [(i.path.name, i.source, i.labels) for i in items] == [
        ("a.png", "knees", frozenset()),
        ("b.png", "knees", frozenset()),
    ]


def test_tiles_keep_their_class_and_the_publisher_s_name(tmp_path: Path) -> None:
    items = tiles(touch(tmp_path / "any", "Hand/1.jpeg", "HeadCT/1.jpeg"))
    assert [(i.source, *i.labels) for i in items] == [("body_parts_mnist", "Hand"), ("body_parts_mnist", "HeadCT")]


@pytest.mark.parametrize(("sick", "well"), [("COVID", "non-COVID"), ("sick", "healthy")])
def test_ct_slices_have_the_same_labels_under_both_names(tmp_path: Path, sick: str, well: str) -> None:
    items = sars_ct(touch(tmp_path, f"{sick}/a.png", f"{well}/b.png", f"{well}/c.png"))
    assert Counter(label for i in items for label in i.labels) == {"COVID-19": 1, "non-COVID": 2}


def test_another_class_among_the_ct_slices_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="class folder Knee is not one of COVID, sick, non-COVID, healthy"):
        sars_ct(touch(tmp_path, "COVID/a.png", "Knee/b.png"))
