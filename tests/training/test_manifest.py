from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.errors import ManifestError
from training.manifest import COLUMNS, NO_FINDING, Box, Item, Manifest, exclusive, findings

HEART, LUNG = "Cardiomegaly", "Mass"


def item(name: str, *labels: str, **said: object) -> Item:
    return replace(Item(Path("films") / name, "made", frozenset(labels)), **said)  # type: ignore[arg-type]


def test_an_image_without_a_patient_is_a_group_of_its_own() -> None:
    assert item("a.png").group != item("b.png").group
    assert item("a.png", patient="p").group == item("b.png", patient="p").group
    assert item("a.png", patient="p").group != item("a.png", patient="p", source="other").group


def test_files_of_one_name_in_two_folders_are_two_groups() -> None:
    one, two = Item(Path("hand/000001.png"), "tiles"), Item(Path("head/000001.png"), "tiles")
    assert one.group != two.group


def test_a_patient_of_nih_is_the_same_in_all_of_its_copies() -> None:
    sources = ("nih", "nih1000", "nih_adleberg")
    assert len({item("a.png", patient="00000013", source=s).group for s in sources}) == 1


def test_an_exclusive_item_bears_exactly_one_label() -> None:
    found = exclusive((HEART, LUNG), [item("a", HEART, "view"), item("b", LUNG)])
    assert found.targets.tolist() == [[1, 0], [0, 1]] and found.counted.all()
    with pytest.raises(ManifestError, match=r"b: one of Cardiomegaly, Mass is needed, not \[\]"):
        exclusive((HEART, LUNG), [item("a", HEART), item("b")])
    with pytest.raises(ManifestError, match="one of"):
        exclusive((HEART, LUNG), [item("a", HEART, LUNG)])


def test_a_finding_is_counted_where_it_is_sure_and_against_films_without_any() -> None:
    items = [
        item("sure", HEART),
        item("other finding", LUNG),
        item("weak", "Hernia", weak=frozenset({HEART})),
        item("healthy", NO_FINDING),
        item("unsure healthy", NO_FINDING, weak=frozenset({HEART})),
        item("nothing known"),
    ]
    found = findings((HEART, LUNG), items)
    assert found.targets[:, 0].tolist() == [1, 0, 1, 0, 0, 0], "weak labels are trained on, not against a reader"
    assert found.counted[:, 0].tolist() == [True, False, False, True, True, False]
    assert found.evaluated.tolist() == [True, True, False, True, True, False]
    everybody = findings((HEART,), items, healthy=lambda i: HEART not in i.labels)
    assert everybody.counted.all() and everybody.targets[:, 0].tolist() == [1, 0, 0, 0, 0, 0]


def test_the_stratum_is_the_source_and_the_rarest_label() -> None:
    items = [item("a", HEART, LUNG), item("b", HEART), item("c", NO_FINDING), item("d", HEART, source="other")]
    assert findings((HEART, LUNG), items).strata.tolist() == [
        "made:Mass",
        "made:Cardiomegaly",
        "made:",
        f"other:{HEART}",
    ]


def test_targets_of_another_shape_are_an_error() -> None:
    with pytest.raises(ManifestError, match=r"\(2, 1\) targets are needed, not \(2, 2\)"):
        Manifest((HEART,), (item("a"), item("b")), np.zeros((2, 2), np.int64), np.ones((2, 1), bool))


def labelled() -> Manifest:
    items = [item("a", HEART, patient="1", boxes=(Box(HEART, 0.1, 0.2, 0.3, 0.4),)), item("b", NO_FINDING, patient="2")]
    return replace(findings((HEART,), items), digests=("d1", "d2"))


def test_the_digest_does_not_follow_the_order() -> None:
    found = labelled()
    turned = Manifest(
        found.labels, found.items[::-1], found.targets[::-1], found.counted[::-1], digests=found.digests[::-1]
    )
    assert turned.digest() == found.digest()


@pytest.mark.parametrize(
    "change",
    [{"patient": "3"}, {"boxes": ()}, {"part": "test"}, {"age": 3.0}, {"source": "other"}, {"path": Path("films/z")}],
    ids=lambda c: next(iter(c)),
)
def test_the_digest_follows_all_that_training_sees_of_an_item(change: dict[str, object]) -> None:
    found = labelled()
    other = replace(found, items=(replace(found.items[0], **change), found.items[1]))  # type: ignore[arg-type]
    assert other.digest() != found.digest()


def test_the_digest_follows_bytes_targets_and_labels_and_not_the_folder() -> None:
    found = labelled()
    changed = [
        replace(found, digests=("d1", "d3")),
        replace(found, targets=1 - found.targets),
        replace(found, counted=~found.counted),
        replace(found, labels=(LUNG,)),
    ]
    assert len({found.digest(), *(c.digest() for c in changed)}) == 5
    moved = tuple(replace(i, path=Path("/elsewhere") / i.path) for i in found.items)
    assert replace(found, items=moved).digest() == found.digest()


def test_there_is_no_digest_before_the_files_are_read() -> None:
    with pytest.raises(ManifestError, match="not known yet"):
        replace(labelled(), digests=()).digest()


def test_a_written_manifest_says_what_is_counted(tmp_path: Path) -> None:
    found = labelled()
    two = Manifest((HEART, LUNG), found.items, np.array([[1, 0], [0, 0]]), np.array([[True, False], [True, True]]))
    two.write(tmp_path / "m.csv")
    with (tmp_path / "m.csv").open(newline="") as file:
        head, first, second = csv.reader(file)
    assert head == [*COLUMNS, HEART, LUNG]
    assert first[-2:] == ["1", ""] and second[-2:] == ["0", "0"]
    assert first[COLUMNS.index("boxes")] == "Cardiomegaly:0.1000,0.2000,0.3000,0.4000"
