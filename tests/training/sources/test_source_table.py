import gzip
from pathlib import Path

import pytest
from folders_made import write

from training.sources import table
from training.sources.table import SourceError


def test_a_table_with_a_byte_order_mark_blanks_and_empty_lines_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "\ufefffilename , label", "a.png , chest", "", "b.png")
    assert table.rows(path, ["filename", "label"]) == [
        {"filename": "a.png", "label": "chest"},
        {"filename": "b.png", "label": ""},
    ]


def test_a_packed_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"filename\na.png\n"))
    assert table.rows(path, []) == [{"filename": "a.png"}]


def test_a_missing_table_is_named_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.csv: is missing; it must have the columns filename, label"):
        table.rows(tmp_path / "t.csv", ["filename", "label"])


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "file,label", "a.png,chest")
    with pytest.raises(SourceError, match=r"has no column filename \(has: file, label\)"):
        table.rows(path, ["filename", "label"])
    with pytest.raises(SourceError, match=r"no column age or years \(has: file, label\)"):
        table.one_of(path, table.rows(path, []), "age", "years")


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no rows"):
        table.rows(write(tmp_path / "t.csv", "filename,label"), ["filename"])


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_file_that_is_no_table_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match=f"{name}: cannot be read"):
        table.rows(tmp_path / name, [])


def test_a_truncated_packed_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"filename\n" + b"a.png\n" * 50)[:-12])
    with pytest.raises(SourceError, match="cannot be read"):
        table.rows(tmp_path / "t.csv.gz", [])


@pytest.mark.parametrize(
    ("text", "years"), [("65", 65), ("058Y", 58), ("18M", 1.5), ("65.5", 65.5), ("", None), ("414", None), ("-1", None)]
)
def test_an_age_is_in_years_and_an_impossible_one_is_unknown(text: str, years: float | None) -> None:
    assert table.age(text, where="t.csv") == years


def test_words_that_mean_nothing_are_errors_that_name_the_row() -> None:
    with pytest.raises(SourceError, match=r"t\.csv, a\.png: age = 'old'"):
        table.age("old", where="t.csv, a.png")
    with pytest.raises(SourceError, match=r"t\.csv, a\.png: sex = 'w'.* F, M, O"):
        table.sex("w", where="t.csv, a.png")
    with pytest.raises(SourceError, match=r"t\.csv: 'left' is no number"):
        table.number("left", where="t.csv")


def test_sex_is_one_letter() -> None:
    assert [table.sex(text, where="") for text in ("f", "Male", "Other", "U", "")] == ["F", "M", "O", "", ""]


def test_views_are_pa_ap_lateral_or_unknown() -> None:
    words = ["pa", "AP Supine", "AP semi erect", "L", "Left Lateral", "Axial", "LLD", ""]
    assert [table.view(word) for word in words] == ["PA", "AP", "AP", "LATERAL", "LATERAL", "", "", ""]


def test_labels_are_joined_by_a_bar_and_none_is_empty() -> None:
    assert table.labels("Mass | Edema", where="") == {"Mass", "Edema"}
    for text in ("", "Mass|", "|"):
        with pytest.raises(SourceError, match=r"a\.png: the label"):
            table.labels(text, where="a.png")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_may_be_parted_as_a_spreadsheet_does(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"filename{separator}label\na.png{separator}Mass\n")
    assert list(table.rows(path, ["filename", "label"])) == [{"filename": "a.png", "label": "Mass"}]
