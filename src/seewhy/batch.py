"""The keys of a batch and of a prediction, with shapes and units: the one vocabulary of the package.

Letters: B samples, C channels, K foreground classes, D/H/W depth, height, width, S slices of one patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from seewhy.io.placement import Placement

__all__ = ["Batch", "Prediction"]


class Batch(TypedDict, total=False):
    """What every data set yields.

    Training batches hold samples of many patients, and never a mask where training is weakly supervised or of
    whole images. Validation, test and predict batches of sliced volumes hold all slices of ONE patient, in slice
    order, so that B = S; those of cases hold `eval_batch_size` cases, of any patients, each case once. `mask` is
    there when the data set has one, and is read by metrics only.
    """

    image: Tensor | dict[str, Tensor]
    """[B, C, *spatial] float32, normalised; or one such tensor per named input.

    With named inputs of which some may be missing there is `present` besides, [B, inputs] bool in the order of
    the inputs; a missing one is zero.
    """
    label: Tensor
    """[B, K] float32 in {0, 1}, one column per foreground class; or [B] int64 for one class per sample.

    Absent where the data set has no labels.
    """
    mask: Tensor | dict[str, Tensor]
    """[B, *spatial] uint8 class indices, 0 is background; or one such tensor per named input. For evaluation only."""
    body: Tensor
    """[B, *spatial] bool, the voxels of tissue as told from the intensities alone (no annotation)."""
    id: list[str]
    """[B] unique and safe as a file name."""
    patient: list[str]
    """[B] the patient each sample is of."""
    index: list[int]
    """[B] slice number within its volume, as in the source, or -1 where unknown; of volumes, of the first slice."""
    source: list[str]
    """[B] the file each sample was cut from, or an empty string; of several inputs, the first one's."""
    placement: list[Placement | None]
    """[B] how the image was cut from its source, and so the way back for maps."""
    spacing: Tensor
    """[B, spatial axes] float32 mm per pixel; NaN where unknown."""


class Prediction(TypedDict, total=False):
    """What `predict_step` gives for a batch; maps are named, e.g. `cam`, `refined`, `segmentation`.

    Classifiers of whole images give `logits` and `probability`, and no maps: those are made by explainers.
    """

    id: list[str]
    patient: list[str]
    index: list[int]
    source: list[str]
    logits: Tensor
    """[B, K] float32, raw class scores."""
    probability: Tensor
    """[B, K] float32 in [0, 1], per foreground class (multi-label) or over classes (softmax)."""
    label: Tensor
    """As in the batch, where known."""
    maps: dict[str, Tensor]
    """Name → [B, K, *spatial] float32 in [0, 1], at the size of the batch's image."""
