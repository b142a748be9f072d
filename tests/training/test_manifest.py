from dataclasses import replace
from pathlib import Path

from training.manifest import Item, Manifest


def test_the_digest_follows_bytes_targets_and_patients_and_not_the_order(tmp_path: Path) -> None:
    items = []
    for name in "ab":
        (tmp_path / name).write_text(name)
        items.append(Item(tmp_path / name, (1,), "source", name))
    first = Manifest(("x",), tuple(items)).digest()
    assert Manifest(("x",), tuple(reversed(items))).digest() == first
    for changed in (replace(items[0], targets=(0,)), replace(items[0], patient="z"), replace(items[0], evaluate=False)):
        assert Manifest(("x",), (changed, items[1])).digest() != first
    (tmp_path / "a").write_text("other")
    assert Manifest(("x",), tuple(items)).digest() != first


def test_an_image_without_a_patient_is_a_group_of_its_own() -> None:
    one, two = Item(Path("a.png"), (1,), "s"), Item(Path("b.png"), (1,), "s")
    assert one.group != two.group
    assert Item(Path("a.png"), (1,), "s", "p").group == Item(Path("b.png"), (0,), "s", "p").group
    assert Item(Path("a.png"), (1,), "s", "p").group != Item(Path("a.png"), (1,), "t", "p").group
