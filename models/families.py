"""What a network that was made elsewhere expects to be fed: presets of the published families, or a person's own list.

Nothing is stretched, cropped or guessed: a preset does what the family's authors published, after resizing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models import preprocess
from models.bundle import StepSpec
from models.foreign import ImportRefused, read_json
from models.seal import golden_images

Floats = NDArray[np.float32]

PRESETS: Mapping[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "unit": (),
    "vgg16": (
        ("scale", {"factor": 255.0}),
        ("standardise", {"mean": [103.939, 116.779, 123.68], "std": [1.0, 1.0, 1.0]}),
    ),
    "inception_v3": (("scale", {"factor": 2.0, "offset": -1.0}),),
    "mobilenet_v2": (("scale", {"factor": 2.0, "offset": -1.0}),),
    "densenet121": (("standardise", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),),
    "efficientnet_v2_b0": (("scale", {"factor": 255.0}),),
}
"""Each family's own preprocess_input of keras.applications, for grey in [0, 1]; BGR is then only the order of means."""


def steps(wanted: str, shape: tuple[int, int, int]) -> list[StepSpec]:
    """The steps of a preset, or those in a JSON file, for a network that takes `shape` (height, width, channels).

    Raises:
        ImportRefused: no such preset or file, or it does not fit.
    """
    height, width, channels = shape
    if wanted in PRESETS:
        if wanted != "unit" and channels != 3:
            raise ImportRefused(f"--preprocessing {wanted}: is for 3 channels, the network takes {channels}")
        resize = ("resize", {"height": height, "width": width})
        grey = (("repeat", {"channels": channels}),) if channels > 1 else ()
        return [StepSpec(step=step, arguments=given) for step, given in (resize, *grey, *PRESETS[wanted])]
    path = Path(wanted)
    if not path.is_file():
        raise ImportRefused(
            f"--preprocessing {wanted}: is neither one of {', '.join(PRESETS)} nor a JSON file with a list of steps"
        )
    found: list[StepSpec] = read_json(path, TypeAdapter(list[StepSpec]))
    return found


def inputs(steps: Sequence[StepSpec], shape: tuple[int, int, int]) -> Floats:
    """The golden images as the network gets them, which shows whether the steps fit it.

    Raises:
        ImportRefused: the steps cannot be run, or give another shape.
    """
    run = [preprocess.Step(s.step, s.arguments) for s in steps]
    try:
        found = [preprocess.run(run, image.astype(np.float32) / 255) for image in golden_images()]
    except (TypeError, ValueError, IndexError) as error:
        raise ImportRefused(f"--preprocessing: the steps cannot be run: {error}") from None
    if found[0].shape != shape:
        raise ImportRefused(f"--preprocessing: the steps give {found[0].shape}, the network takes {shape}")
    return np.stack(found)
