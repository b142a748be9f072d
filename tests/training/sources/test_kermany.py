from pathlib import Path

import pytest
from folders_made import touch

from training.sources import SourceError, pediatric_pneumonia


@pytest.mark.parametrize(
    ("name", "patient", "labels"),
    [
        ("PNEUMONIA/person9_bacteria_40.jpeg", "person9", {"Pneumonia", "Bacterial"}),
        ("PNEUMONIA/person9_virus_3.jpeg", "person9", {"Pneumonia", "Viral"}),
        ("NORMAL/IM-0005-0001.jpeg", "IM-0005", {"No Finding"}),
        ("NORMAL/IM-0033-0001-0002.jpeg", "IM-0033-0001", {"No Finding"}),
        ("test/NORMAL/NORMAL2-IM-1261-0001.jpeg", "NORMAL2-IM-1261", {"No Finding"}),
        ("train/PNEUMONIA/VIRUS-1980593-0002.jpeg", "VIRUS-1980593", {"Pneumonia", "Viral"}),
        ("train/NORMAL/NORMAL-1003233-0001.jpeg", "NORMAL-1003233", {"No Finding"}),
    ],
)
def test_patient_and_cause_stand_in_the_name(tmp_path: Path, name: str, patient: str, labels: set[str]) -> None:
    (item,) = pediatric_pneumonia(touch(tmp_path, name))
    assert (item.patient, item.labels, item.part) == (patient, labels, "")


def test_a_name_without_a_patient_and_another_class_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"film\.jpeg: the name says no patient"):
        pediatric_pneumonia(touch(tmp_path / "a", "NORMAL/film.jpeg"))
    with pytest.raises(SourceError, match="class folder COVID is not one of NORMAL, PNEUMONIA"):
        pediatric_pneumonia(touch(tmp_path / "b", "COVID/IM-0005-0001.jpeg"))
