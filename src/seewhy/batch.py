"""The keys of a batch and of a prediction, with shapes and units: the one vocabulary of the package.

Letters: B samples, C channels, K foreground classes, D/H/W depth, height, width, S slices of one patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "Prediction"]


class Batch(TypedDict, total=False):
    """What every data set yields.

    Training batches hold samples of many patients and never a mask where training is weakly supervised.
    Validation, test and predict batches of sliced volumes hold all slices of ONE patient, in slice order, so
    that B = S; `mask` is there when the data set has one, and is read by metrics only.
    """

    image: Tensor | dict[str, Tensor]
    """[B, C, *spatial] float32, normalised; or one such tensor per named input."""
    label: Tensor
    """[B, K] float32 in {0, 1}, one column per foreground class; or [B] int64 for one class per sample."""
    mask: Tensor
    """[B, *spatial] uint8 class indices, 0 is background. For evaluation only."""
    body: Tensor
    """[B, *spatial] bool, the voxels of tissue as told from the intensities alone (no annotation)."""
    id: list[str]
    """[B] unique and safe as a file name."""
    patient: list[str]
    """[B] the patient each sample is of."""
    index: list[int]
    """[B] slice number within its volume, as in the source, or -1 where unknown."""
    source: list[str]
    """[B] the file each sample was cut from, or an empty string."""
    spacing: Tensor
    """[B, spatial axes] float32 mm per pixel; NaN where unknown."""


class Prediction(TypedDict, total=False):
    """What `predict_step` gives for a batch; maps are named, e.g. `cam`, `refined`, `segmentation`."""

    id: list[str]
    patient: list[str]
    index: list[int]
    source: list[str]
    probability: Tensor
    """[B, K] float32 in [0, 1], per foreground class (multi-label) or over classes (softmax)."""
    label: Tensor
    """As in the batch, where known."""
    maps: dict[str, Tensor]
    """Name → [B, K, *spatial] float32 in [0, 1], at the size of the batch's image."""
