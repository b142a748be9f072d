"""The arithmetic of class activation maps, and only that.

For a network that ends in global average pooling and one dense layer, the logit is the mean over positions of
features x weights, so that the product itself says how much each position adds (Zhou et al. 2016). For any other
network the mean slopes take the place of the weights (Grad-CAM, Selvaraju et al. 2017). Either shows where the network
looked; it does not show where a lesion ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def activation_map(features: Floats, weights: Floats) -> Floats:
    """(height, width, channels) and (channels,) to (height, width) in [0, 1]: what speaks for the label.

    0 where a position speaks against it or nothing does; 1 where it speaks most for it in this image.
    """
    raised = np.maximum(features @ weights, 0)
    top = float(raised.max())
    return np.asarray(raised / top if top > 0 else raised, np.float32)


def contrast(weights: Floats) -> Floats:
    """Weights (channels, labels) of a softmax head, each against the mean of the others: what tells it apart."""
    labels = weights.shape[1]
    others = (weights.sum(axis=1, keepdims=True) - weights) / max(1, labels - 1)
    return np.asarray(weights - others, np.float32)


def slopes(features: Any, outputs: Any) -> Any:
    """Grad-CAM's weights (n, channels, outputs): how steeply each output rises with each channel, on average over
    positions (equation 1 of Selvaraju et al. 2017, up to a factor that `activation_map` takes out).

    `features` (n, height, width, channels) and `outputs` (n, outputs) are tensors of one graph that is being traced.
    """
    import tensorflow as tf

    found = [tf.gradients(outputs[:, k], features)[0] for k in range(outputs.shape[1])]
    return tf.stack([tf.reduce_mean(slope, axis=(1, 2)) for slope in found], axis=-1)
