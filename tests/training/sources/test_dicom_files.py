from pathlib import Path

import pytest
from folders_made import touch, write, write_dicom

from training.sources import SourceError, dicom, node
from training.sources.dicom_headers import described


def test_a_header_says_patient_age_sex_and_view(tmp_path: Path) -> None:
    film = described(
        write_dicom(
            tmp_path / "a",
            "1.2.3",
            PatientID=" P7",
            PatientAge="018M",
            PatientSex="f",
            ViewPosition="LL",
            AccessionNumber="A1",
        )
    )
    assert (film.patient, film.age, film.sex, film.view, film.accession_number) == ("P7", 1.5, "F", "LATERAL", "A1")
    assert (film.sop_instance_uid, film.rows, film.columns) == ("1.2.3", 100, 200)


def test_what_a_header_does_not_say_is_empty(tmp_path: Path) -> None:
    film = described(write_dicom(tmp_path / "a", "1.2.3", PatientSex="X"))
    assert (film.patient, film.age, film.sex, film.view, film.accession_number) == ("", None, "", "", "")


def test_files_are_labelled_by_their_instance_uid(tmp_path: Path) -> None:
    write_dicom(tmp_path / "x/a.dcm", "1.2.1", PatientID="P1")
    write_dicom(tmp_path / "IM0001", "1.2.2", PatientID="P2")
    write_dicom(tmp_path / "c.dcm", "1.2.3")
    write(tmp_path / "labels.csv", "sop_instance_uid,label", "1.2.1,Mass", "1.2.2,Mass|Edema", "1.2.1,Hernia")
    found = {i.path.name: (set(i.labels), i.patient, i.source) for i in dicom(tmp_path, source="mine")}
    assert found == {"a.dcm": ({"Mass", "Hernia"}, "P1", "mine"), "IM0001": ({"Mass", "Edema"}, "P2", "mine")}


def test_an_accession_number_labels_all_images_of_the_study_and_no_objects_without_pixels(tmp_path: Path) -> None:
    for n in (1, 2):
        write_dicom(tmp_path / f"{n}.dcm", f"1.2.{n}", AccessionNumber="A1")
    write_dicom(tmp_path / "report.dcm", "1.2.3", AccessionNumber="A1", Rows=None, Columns=None)
    table = write(tmp_path / "elsewhere.csv", "accession_number,labels", "A1,Mass")
    assert [i.path.name for i in dicom(tmp_path, table)] == ["1.dcm", "2.dcm"]


def test_rows_without_an_image_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", "1.2.1")
    write(tmp_path / "labels.csv", "sop_instance_uid,label", "1.2.1,Mass", "1.2.8,Mass", "1.2.9,Mass")
    with pytest.raises(SourceError, match=r"2 of 3 have no image, the first is sop_instance_uid 1\.2\.8"):
        dicom(tmp_path)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("accession_number,label", ",Mass"), "a row has no accession_number"),
        (("uid,label", "1,Mass"), r"no column sop_instance_uid or accession_number \(has: uid, label\)"),
        (("accession_number,class", "1,Mass"), r"no column label or labels"),
    ],
)
def test_a_table_that_names_no_image_or_label_is_an_error(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    write_dicom(tmp_path / "a.dcm", "1.2.1")
    write(tmp_path / "labels.csv", *lines)
    with pytest.raises(SourceError, match=words):
        dicom(tmp_path)


def test_a_missing_folder_table_or_dicom_prefix_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere: is missing"):
        dicom(tmp_path / "nowhere")
    with pytest.raises(
        SourceError, match=r"labels\.csv: is missing; .* sop_instance_uid or accession_number, and label"
    ):
        dicom(tmp_path)
    write(tmp_path / "labels.csv", "accession_number,label", "A1,Mass")
    with pytest.raises(SourceError, match=r"a\.dcm: is no DICOM file"):
        dicom(touch(tmp_path, "a.dcm"))


def spooled(folder: Path, uid: str, *, digest: str = "d1", **values: object) -> Path:
    """A received file, where `node.storage.spool` puts it."""
    from node.storage.spool import Spool

    path = Spool(folder / "spool").object_path(uid, digest, "association")
    return write_dicom(path, uid, **values)


def test_a_node_s_inputs_are_read_and_its_results_are_not(tmp_path: Path) -> None:
    film = spooled(tmp_path, "1.2.1", AccessionNumber="A1", PatientID="P1")
    spooled(tmp_path, "1.2.2", AccessionNumber="A1", Manufacturer="Overread")
    spooled(tmp_path, "1.2.3", AccessionNumber="other")
    write_dicom(tmp_path / "spool/results/.4/1.2.4.dcm", "1.2.4", AccessionNumber="A1")
    write_dicom(tmp_path / "spool/tmp/x.dcm", "1.2.5", AccessionNumber="A1")
    table = write(tmp_path / "labels.csv", "accession_number,label", "A1,Mass")
    (item,) = node(tmp_path, table)
    assert (item.path, item.source, item.patient, item.labels) == (film, "node", "P1", {"Mass"})


def test_an_instance_that_came_with_two_contents_is_left_out(tmp_path: Path) -> None:
    spooled(tmp_path, "1.2.1", AccessionNumber="A1")
    spooled(tmp_path, "1.2.2", digest="d1", AccessionNumber="A1")
    spooled(tmp_path, "1.2.2", digest="d2", AccessionNumber="A1")
    write(tmp_path / "labels.csv", "accession_number,label", "A1,Mass")
    assert len(node(tmp_path)) == 1
    write(tmp_path / "labels.csv", "sop_instance_uid,label", "1.2.2,Mass")
    with pytest.raises(SourceError, match=r"1 of 1 have no image, the first is sop_instance_uid 1\.2\.2"):
        node(tmp_path)


def test_a_folder_that_is_no_node_s_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no data folder of a node: .*spool/obj is missing"):
        node(tmp_path)


def test_two_labelled_files_of_one_instance_are_an_error_that_names_both(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        write_dicom(tmp_path / name, "1.2.1")
    write(tmp_path / "labels.csv", "sop_instance_uid,label", "1.2.1,Mass")
    with pytest.raises(SourceError, match=r"b\.dcm: has the SOP Instance UID of .*a\.dcm"):
        dicom(tmp_path)
