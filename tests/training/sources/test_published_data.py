"""The real folders, counted as their README files count them."""

from collections import Counter
from pathlib import Path

import pytest
from folders_made import write

from training import sources
from training.manifest import Item, exclusive, findings

pytestmark = pytest.mark.data


def counted(items: list[Item]) -> Counter[str]:
    return Counter(label for item in items for label in item.labels)


def patients(items: list[Item], label: str) -> int:
    return len({item.group for item in items if label in item.labels})


@pytest.mark.parametrize(
    ("folder", "name", "films"),
    [
        ("body_parts_mnist", "tiles", 4200),
        ("covid_mpdem", "covid_mpdem", 226),
        ("hello_world", "hello_world", 65),
        ("nih1000", "nih1000", 821),
        ("nih_adleberg", "nih_adleberg", 1510),
        ("pediatric_pneumonia", "pediatric_pneumonia", 1000),
    ],
)
def test_every_folder_is_known_and_all_its_films_are_found(data_dir: Path, folder: str, name: str, films: int) -> None:
    assert sources.detect(data_dir / folder) == name
    items = sources.SOURCES[name](data_dir / folder)
    assert len({i.path for i in items}) == len(items) == films and all(i.path.is_file() for i in items)


def test_the_boxed_nih_films_are_as_their_readme_counts_them(data_dir: Path) -> None:
    items = sources.nih_adleberg(data_dir / "nih_adleberg", data_dir / "nih_metadata")
    assert counted(items) == {
        "Atelectasis": 142, "Cardiomegaly": 117, "Effusion": 118, "Infiltration": 101, "Mass": 68, "No Finding": 807,
        "Nodule": 63, "Pneumonia": 95, "Pneumothorax": 80,
    }  # fmt: skip
    assert len({i.group for i in items}) == 881
    assert (patients(items, "No Finding"), patients(items, "Cardiomegaly")) == (307, 103)
    boxed = [i for i in items if i.boxes]
    assert (len(boxed), sum(len(i.boxes) for i in boxed)) == (703, 784)
    assert all(
        0 <= b.left < b.left + b.width <= 1 and 0 <= b.top < b.top + b.height <= 1 for i in boxed for b in i.boxes
    )
    assert all(i.sex and i.age is not None and i.view in ("PA", "AP") for i in items)
    assert not any(i.weak for i in items if "No Finding" in i.labels)


def test_the_small_nih_films_are_the_table_s_and_share_their_patients(data_dir: Path) -> None:
    large = sources.nih_adleberg(data_dir / "nih_adleberg")
    small = sources.nih1000(data_dir / "nih1000", data_dir / "nih_metadata")
    assert len({i.group for i in small}) == 220
    assert counted(small)["No Finding"] == 404, "one film of the 405 in the normal folder has a finding"
    assert [i.labels for i in small] == [i.labels for i in sources.nih1000(data_dir / "nih1000")]
    rest = sources.nih1000(data_dir / "nih1000", skip_adleberg=True)
    assert len(rest) == 821 - 411
    names = {i.path.stem for i in large}
    assert not names & {i.path.stem for i in rest}
    assert {i.group for i in small if i.path.stem in names} <= {i.group for i in large}


def test_nih_s_own_table_is_whole(data_dir: Path) -> None:
    table = sources.nih_table(data_dir / "nih_metadata")
    assert (len(table), len({row.patient for row in table.values()})) == (112120, 30805)
    assert sum(row.labels == {"No Finding"} for row in table.values()) == 60361


def test_the_other_folders_are_as_their_readmes_count_them(data_dir: Path) -> None:
    assert counted(sources.hello_world(data_dir / "hello_world")) == {"chest": 33, "abdomen": 32}
    assert set(counted(sources.tiles(data_dir / "body_parts_mnist")).values()) == {700}
    children = sources.pediatric_pneumonia(data_dir / "pediatric_pneumonia")
    assert counted(children) == {"No Finding": 500, "Pneumonia": 500, "Bacterial": 250, "Viral": 250}
    assert len({i.group for i in children}) == 742
    published = sources.labels_csv(data_dir / "pediatric_pneumonia")
    assert {i.path: i.patient for i in children} == {i.path: i.patient for i in published}


def test_age_sex_and_view_are_known_of_covid_films_only(data_dir: Path) -> None:
    items = sources.covid_mpdem(data_dir / "covid_mpdem")
    sick = [i for i in items if "COVID-19" in i.labels]
    assert counted(items) == {"COVID-19": 126, "No Finding": 100} and patients(items, "COVID-19") == 85
    assert {i.view for i in sick} == {"PA"} and sum(i.age is None for i in sick) == 28
    assert all(i.patient and i.age is None and not i.sex and not i.view for i in items if i not in sick)


def test_the_items_make_manifests(data_dir: Path) -> None:
    covid = exclusive(("COVID-19", "No Finding"), sources.covid_mpdem(data_dir / "covid_mpdem"))
    assert covid.targets.sum(axis=0).tolist() == [126, 100]
    items = sources.nih_adleberg(data_dir / "nih_adleberg", data_dir / "nih_metadata")
    heart = findings(("Cardiomegaly",), items)
    counted_targets = heart.targets[heart.counted]
    assert (int(counted_targets.sum()), len(counted_targets)) == (117, 117 + 807)


def test_real_dicom_files_of_many_kinds_are_read(dicom_dir: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "labels.csv", "accession_number,label", "FUJI95706,leg")
    (leg,) = sources.dicom(dicom_dir, table)
    assert (leg.path.name, leg.patient, leg.view, int(leg.age or 0)) == ("RG3_J2KI.dcm", "11RG3", "AP", 25)
    uid = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819"
    write(table, "sop_instance_uid,label", f"{uid},Pneumonia")
    with pytest.raises(sources.SourceError, match=r"Fake_MONOHR1\.dcm: has the SOP Instance UID of .*850819\.dcm"):
        sources.dicom(dicom_dir, table)
