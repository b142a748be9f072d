"""Pictures of films and of our own captures, bounded and never guessed."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from house import House, make_image
from PIL import Image
from pydicom.uid import ComprehensiveSRStorage, EncapsulatedPDFStorage
from sqlalchemy import update
from visitors import Person

from node.domain import Study
from node.storage import instances, schema
from node.web.pages import pictures

Routed = Callable[[Path], Study]


@pytest.fixture
def film(house: House, routed: Routed, tmp_path: Path) -> Path:
    """A film of half black, half white; where the spool keeps it."""
    pixels = np.zeros((64, 48), np.uint16)
    pixels[:, 24:] = 4000
    routed(make_image(tmp_path / "a.dcm", pixels=pixels))
    return instances.of_study(house.store, 1)[0].path


def test_a_film_is_shown_as_it_is_windowed(viewer: Person, film: Path) -> None:
    answer = viewer.get("/studies/1/instances/1/small.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["cache-control"] == "no-store"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert shown.shape == (64, 48)
    assert (shown[:, :20].max(), shown[:, 30:].min()) == (0, 255)


@pytest.mark.parametrize(
    "path",
    [
        "/studies/1/instances/9/small.png",
        "/studies/2/instances/1/small.png",
        "/studies/1/instances/1/huge.png",
        "/studies/1/results/1/small.png",
    ],
)
def test_there_is_no_other_picture(viewer: Person, film: Path, path: str) -> None:
    assert viewer.get(path).status_code == 404


def test_an_altered_file_is_not_shown(viewer: Person, film: Path) -> None:
    film.chmod(0o600)
    film.write_bytes(film.read_bytes()[:-2] + b"\1\2")
    answer = viewer.get("/studies/1/instances/1/large.png")
    assert (answer.status_code, answer.text) == (404, "The file was altered.")


def test_a_lost_file_is_said_to_be_lost(viewer: Person, film: Path) -> None:
    film.unlink()
    assert viewer.get("/studies/1/instances/1/large.png").text == "The file cannot be read."


def test_who_finds_all_places_taken_is_told_soon_to_come_again(
    viewer: Person, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_decoding", threading.BoundedSemaphore(1))
    with pictures._decoding:
        began = time.monotonic()
        answer = viewer.get("/studies/1/instances/1/large.png")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert 1 < time.monotonic() - began < 10
    assert viewer.get("/studies/1/instances/1/large.png").status_code == 200


@pytest.mark.parametrize(
    ("sop_class", "words"),
    [
        (ComprehensiveSRStorage, "Comprehensive SR"),
        (EncapsulatedPDFStorage, "Encapsulated PDF"),
        ("1.2.3.4", "private object"),
    ],
)
def test_what_has_no_picture_is_named_instead(
    house: House, routed: Routed, viewer: Person, tmp_path: Path, sop_class: str, words: str
) -> None:
    routed(make_image(tmp_path / "a.dcm"))
    with house.store.write() as connection:
        connection.execute(update(schema.instance).values(sop_class_uid=sop_class))
    page = viewer.get("/studies/1").text
    assert f'<span class="gone words">{words}</span>' in page
    assert "/instances/1/small.png" not in page


def test_an_image_is_shown_and_not_named(viewer: Person, film: Path) -> None:
    page = viewer.get("/studies/1").text
    assert "/instances/1/small.png" in page and "gone words" not in page
