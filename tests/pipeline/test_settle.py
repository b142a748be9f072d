from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from house import House
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless, generate_uid

from config.settings import Settings
from node.domain import InstanceState, StudyState
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import instances, studies

Make = Callable[..., Path]


def settle(house: House, *, after: float) -> list[Any]:
    house.now += after
    return list(settle_due(house.store, house.settings, house.now).studies)


def route(house: House) -> Any:
    plans = [Planned(r, f"{r.bundle}@1.0.0") for r in house.settings.route]
    return route_study(house.store, house.only_study(), plans, house.now)


def twin(image: Make, first: Path, **changed: Any) -> Path:
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    return image(**(same | changed))


def test_a_study_settles_soon_after_its_association_is_released(house: House, image: Make) -> None:
    house.receive(image())
    assert settle(house, after=2.9) == []
    (study,) = settle(house, after=0.2)
    assert (study.state, study.revision) == (StudyState.SETTLED, 1)
    assert study.settled_by == "association released, then quiet for 3 s"


def test_a_study_whose_association_is_open_waits_for_silence(house: House, image: Make) -> None:
    house.begin()
    house.put(image())
    assert settle(house, after=29) == []
    (study,) = settle(house, after=2)
    assert study.settled_by == "quiet for 30 s"


def test_an_aborted_association_does_not_count_as_a_release(house: House, image: Make) -> None:
    name = house.begin()
    house.put(image())
    house.receiver.on_end(name, "aborted")
    assert settle(house, after=20) == []
    assert settle(house, after=11) != []


def test_a_second_open_association_keeps_the_study_waiting(house: House, image: Make) -> None:
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid))
    house.begin("b" * 12)
    house.put(image(StudyInstanceUID=uid), association="b" * 12)
    assert settle(house, after=10) == []
    house.receiver.on_end("b" * 12, "released")
    assert settle(house, after=3.1) != []


def test_a_peer_may_have_its_own_rule(build: Callable[..., House], image: Make) -> None:
    peer = house_peer(settle={"quiet_seconds": 0, "released_quiet_seconds": 0})
    house = build(peer=[peer])
    house.begin()
    house.put(image())
    assert settle(house, after=0) != []


def house_peer(**more: Any) -> dict[str, Any]:
    return {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104} | more


def test_the_next_due_time_is_told(house: House, image: Make) -> None:
    house.receive(image())
    assert settle_due(house.store, house.settings, house.now).next_due == pytest.approx(house.now + 3)


def test_a_late_image_opens_the_next_revision(house: House, image: Make) -> None:
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid))
    settle(house, after=5)
    assert route(house).state is StudyState.ROUTED
    house.receive(image(StudyInstanceUID=uid))
    assert house.only_study().state is StudyState.RECEIVING
    (study,) = settle(house, after=5)
    assert study.revision == 2


def test_the_same_image_again_opens_no_revision(house: House, image: Make) -> None:
    path = image()
    house.receive(path)
    settle(house, after=5)
    route(house)
    house.receive(path)
    assert house.only_study().state is StudyState.ROUTED


def test_the_same_image_in_another_encoding_is_a_duplicate(house: House, image: Make, tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 60000, (64, 48), dtype=np.uint16)
    first = image(pixels=array)
    ds = dcmread(first)
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    other = tmp_path / "jls.dcm"
    ds.save_as(other)
    house.receive(first)
    settle(house, after=5)
    route(house)
    house.receive(other)
    assert house.only_study().state is StudyState.RECEIVING
    assert settle(house, after=5) == []
    study = house.only_study()
    assert (study.state, study.revision) == (StudyState.ROUTED, 1)
    states = [i.state for i in instances.of_study(house.store, study.id)]
    assert states == [InstanceState.CURRENT, InstanceState.DUPLICATE]


def test_other_pixels_under_the_same_uid_hold_the_study(house: House, image: Make) -> None:
    first = image()
    house.receive(first)
    settle(house, after=5)
    route(house)
    house.receive(twin(image, first, pixels=np.zeros((64, 48), np.uint16)))
    settle(house, after=5)
    study = house.only_study()
    assert study.state is StudyState.HELD
    assert "decoded pixels differ" in study.reason


def test_pixels_that_cannot_be_compared_hold_the_study(house: House, image: Make) -> None:
    first = image()
    house.receive(first)
    settle(house, after=5)
    route(house)
    house.receive(twin(image, first, PixelData=b"\0" * 100))
    settle(house, after=5)
    study = house.only_study()
    assert study.state is StudyState.HELD
    assert "cannot be compared: The pixel data ends early" in study.reason


def test_a_comparison_that_was_stopped_is_made_at_the_next_sweep(
    house: House, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_pairs: Any) -> list[str]:
        raise InterruptedError

    first = image()
    house.receive(first, twin(image, first, pixels=np.zeros((64, 48), np.uint16)))
    with monkeypatch.context() as patch:
        patch.setattr("node.pipeline.settle.differences", stopped)
        assert settle(house, after=5) == []
    assert house.only_study().state is StudyState.RECEIVING
    settle(house, after=5)
    assert house.only_study().state is StudyState.HELD


def test_an_accepted_correction_becomes_the_next_revision(house: House, image: Make) -> None:
    first = image()
    house.receive(first)
    settle(house, after=5)
    route(house)
    house.receive(twin(image, first, PatientID="P2"))
    assert studies.accept(house.store, house.only_study(), now=house.now) == 1
    (study,) = settle(house, after=40)
    assert (study.revision, study.patient_id) == (2, "P2")
    states = [i.state for i in instances.of_study(house.store, study.id)]
    assert states == [InstanceState.SUPERSEDED, InstanceState.CURRENT]


def test_a_rejected_correction_leaves_the_study_as_it_was(house: House, image: Make) -> None:
    first = image()
    house.receive(first)
    settle(house, after=5)
    route(house)
    house.receive(twin(image, first, PatientID="P2"))
    assert studies.reject(house.store, house.only_study(), now=house.now) == 1
    assert settle(house, after=40) == []
    study = house.only_study()
    assert (study.state, study.revision, study.patient_id) == (StudyState.ROUTED, 1, "P1")


def test_a_held_study_does_not_settle(house: House, image: Make) -> None:
    first = image()
    house.receive(first, twin(image, first, PatientID="P2"))
    assert settle(house, after=1000) == []


def test_settings_decide_by_peer(house: House) -> None:
    assert isinstance(house.settings, Settings)
    assert house.settings.settle_for("nobody") == house.settings.settle
