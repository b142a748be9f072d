"""The arithmetic of class activation maps, and only that.

For a network that ends in global average pooling and one dense layer, the logit is the mean over positions of
features x weights, so that the product itself says how much each position adds (Zhou et al. 2016). It shows where
the network looked; it does not show where a lesion ends.
"""

from __future__ import annotations

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
