import json
from pathlib import Path

import numpy as np
import pytest

from models import families, preprocess
from models.families import PRESETS
from models.foreign import ImportRefused
from models.preprocess import Step

SHAPE = (32, 48, 3)


def fed(preset: str, grey: float) -> list[float]:
    """The three channels that a network is fed for one grey."""
    run = [Step(s.step, s.arguments) for s in families.steps(preset, SHAPE)]
    return [float(v) for v in preprocess.run(run, np.full((64, 64), grey, np.float32))[0, 0]]


@pytest.mark.parametrize(
    ("preset", "black", "white"),
    [
        ("unit", [0, 0, 0], [1, 1, 1]),
        ("vgg16", [-103.939, -116.779, -123.68], [151.061, 138.221, 131.32]),
        ("inception_v3", [-1, -1, -1], [1, 1, 1]),
        ("mobilenet_v2", [-1, -1, -1], [1, 1, 1]),
        ("densenet121", [-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.64]),
        ("efficientnet_v2_b0", [0, 0, 0], [255, 255, 255]),
    ],
)
def test_a_preset_gives_what_its_family_publishes(preset: str, black: list[float], white: list[float]) -> None:
    assert fed(preset, 0) == pytest.approx(black, abs=1e-3)
    assert fed(preset, 1) == pytest.approx(white, abs=1e-3)


@pytest.mark.model
@pytest.mark.parametrize("preset", [p for p in PRESETS if p != "unit"])
def test_a_preset_is_the_preprocess_input_of_keras(preset: str) -> None:
    import keras

    own = getattr(keras.applications, preset.replace("densenet121", "densenet").replace("_b0", ""))
    theirs = own.preprocess_input(np.full((1, 1, 1, 3), 0.3 * 255, np.float32))
    assert fed(preset, 0.3) == pytest.approx([float(v) for v in theirs.ravel()], abs=1e-3)


def test_one_channel_is_fed_without_a_copy_and_only_as_it_is() -> None:
    steps = families.steps("unit", (32, 32, 1))
    assert families.inputs(steps, (32, 32, 1)).shape == (4, 32, 32, 1)
    with pytest.raises(ImportRefused, match="vgg16: is for 3 channels, the network takes 1"):
        families.steps("vgg16", (32, 32, 1))


def test_a_file_of_steps_is_read_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    steps = [
        {"step": "resize", "arguments": {"height": 32, "width": 48}},
        {"step": "repeat", "arguments": {"channels": 3}},
    ]
    path.write_text(json.dumps(steps))
    found = families.steps(str(path), SHAPE)
    assert [s.step for s in found] == ["resize", "repeat"] and families.inputs(found, SHAPE).shape == (4, *SHAPE)
    with pytest.raises(ImportRefused, match=r"the steps give \(32, 48, 3\), the network takes \(32, 32, 3\)"):
        families.inputs(found, (32, 32, 3))
    path.write_text(json.dumps([{"step": "repeat", "arguments": {"times": 3}}]))
    with pytest.raises(ImportRefused, match=r"cannot be run.*times"):
        families.inputs(families.steps(str(path), SHAPE), SHAPE)


def test_what_is_no_preset_and_no_list_of_steps_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"resnet: is neither one of unit, vgg16.* nor a JSON file"):
        families.steps("resnet", SHAPE)
    path = tmp_path / "steps.json"
    path.write_text(json.dumps([{"step": "sharpen"}]))
    with pytest.raises(ImportRefused, match=r"steps\.json.*sharpen: no such step \(have: resize"):
        families.steps(str(path), SHAPE)
