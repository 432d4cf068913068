"""Turn scores into probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["sigmoid", "softmax"]


def sigmoid(scores: ArrayLike) -> NDArray[np.float32]:
    """Compute the sigmoid of each score; large scores do not overflow.

    Example:
        >>> import numpy as np
        >>> from seewhy_run.arrays.activations import sigmoid
        >>> sigmoid(np.array([-1000.0, 0.0])).tolist()
        [0.0, 0.5]
    """
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(scores))), np.float32)


def softmax(scores: NDArray[Any], axis: int = 1) -> NDArray[np.float32]:
    """Compute the softmax along an axis; large scores do not overflow.

    Example:
        >>> import numpy as np
        >>> from seewhy_run.arrays.activations import softmax
        >>> softmax(np.array([[1000.0, 1000.0]])).tolist()
        [[0.5, 0.5]]
    """
    raised = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True), np.float32)
