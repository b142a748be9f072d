import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, BundleError
from models.predictor import Predictor
from models.registry import Registry
from models.seal import built, golden_images, seal, write_golden


def test_a_sealed_folder_loads_until_a_byte_changes(bundle_folder: Callable[..., Path]) -> None:
    folder = bundle_folder()
    (folder / "MODEL_CARD.md").write_text("another card")
    with pytest.raises(BundleError, match="MODEL_CARD"):
        Bundle.load(folder)
    seal(folder)
    assert Bundle.load(folder).ref == "heart@1.2.0"
    before = (folder / "SHA256SUMS").read_bytes()
    seal(folder)
    assert (folder / "SHA256SUMS").read_bytes() == before, "the list never lists itself"


def test_golden_images_are_always_the_same_and_use_all_greys() -> None:
    images = golden_images()
    assert images.shape == (4, 256, 256) and images.dtype == np.uint8
    assert (images == golden_images()).all()
    assert {(int(i.min()), int(i.max())) for i in images} == {(0, 255)}


@pytest.mark.model
def test_golden_images_are_what_the_bundle_itself_says(tmp_path: Path) -> None:
    source = Registry().all()[0]
    folder = tmp_path / source.path.name
    shutil.copytree(source.path, folder)
    (folder / "golden.npz").unlink()
    table = write_golden(folder)
    bundle = Bundle.load(folder)
    Predictor(bundle, device="cpu").verify()
    assert table.shape == (4, len(bundle.spec.labels))
    with np.load(folder / "golden.npz") as kept:
        assert (kept["scores"] == table).all()


def test_a_bundle_that_is_not_finished_takes_no_place(tmp_path: Path) -> None:
    place = tmp_path / "heart-1.0.0"
    with built(place) as folder:
        assert folder.name == place.name and not place.exists()
        (folder / "first").touch()
    with pytest.raises(ValueError, match="half"), built(place) as folder:
        raise ValueError("half")
    assert [p.name for p in tmp_path.iterdir()] == [place.name] and (place / "first").exists()
    with built(place) as folder:
        (folder / "second").touch()
    assert [p.name for p in place.iterdir()] == ["second"] and len(list(tmp_path.iterdir())) == 1
