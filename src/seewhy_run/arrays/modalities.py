"""Channels of several modalities: each by itself, differences of two, and differences to the mirror image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.body import body_mask
from seewhy_run.arrays.midline import Midline, mirror_slices
from seewhy_run.arrays.statistics import IntensityStatistics

__all__ = ["MIRROR", "find_modality_body", "make_channel"]

FloatArray = NDArray[np.float32]
MIRROR = "mirror"
"""`t1ce-mirror` is t1ce minus its mirror image."""
WHOLE = 0.99
"""Share of tissue above which an interpolated pixel of the mirror image is all tissue."""


def find_modality_body(raw: FloatArray, statistics: Sequence[IntensityStatistics]) -> NDArray[np.bool_]:
    """Pixels [H, W] of a raw slice [modalities, H, W] that are tissue in any modality."""
    masks = [body_mask(image[None], own) for image, own in zip(raw, statistics, strict=True)]
    return np.asarray(np.any(masks, axis=0))


def make_channel(
    modality: str,
    subtracted: str,
    parts: Mapping[str, FloatArray],
    missing: Mapping[str, float],
    midline: Midline | None,
) -> FloatArray:
    """Make a channel [H, W] of a network's input.

    Args:
        modality: of the channel.
        subtracted: what is subtracted from it: another modality, `mirror` for its mirror image, or empty.
        parts: modality → normalised slice [H, W].
        missing: modality → value of its background.
        midline: of the patient; None if the body is not symmetric, a difference to the mirror image is then 0.

    Example:
        >>> import numpy as np
        >>> from seewhy_run.arrays.modalities import make_channel
        >>> parts = {"t1": np.float32([[1, 2]]), "t1ce": np.float32([[1, 5]])}
        >>> make_channel("t1ce", "t1", parts, {"t1": 0.0, "t1ce": 0.0}, None).tolist()
        [[0.0, 3.0]]
    """
    image = parts[modality]
    if not subtracted:
        return image
    if subtracted != MIRROR:
        return image - parts[subtracted]
    if midline is None:
        return np.zeros_like(image)
    background = missing[modality]
    inside = image != background
    # Where only one side is tissue, the difference would show the outline.
    both = inside & (mirror_slices(inside, midline) > WHOLE)
    return np.where(both, image - mirror_slices(image, midline, fill=background), np.float32(0))
