"""Keys of a batch and of a prediction, with shapes and units: the vocabulary of the whole package.

Letters: B samples, C channels, K foreground classes, D/H/W depth, height, width, S slices of one patient, M modalities.

Channels of a 2.5D stack are slice-major: all modalities of slice z - 1, then all of z, then all of z + 1, each in the
order of `MODALITIES`. Channel (slice offset + 1) * M + modality; the centre slice is channels M to 2M - 1.

Example:
    >>> from seewhy.batch import MODALITIES, Batch, Prediction
    >>> sorted(set(Batch.__annotations__) & set(Prediction.__annotations__))
    ['domain', 'id', 'index', 'label', 'patient', 'source']
    >>> offset, modality = 0, MODALITIES.index("flair")
    >>> (offset + 1) * len(MODALITIES) + modality  # channel of the centre slice's FLAIR in a 2.5D stack
    7
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from seewhy.io.placement import Placement

__all__ = ["MODALITIES", "STACK_SLICES", "Batch", "Domain", "Prediction"]

MODALITIES: Final = ("t1", "t1ce", "t2", "flair")
"""Modalities of a slice in a 2.5D stack, in the order of its channels."""
STACK_SLICES: Final = 3
"""Adjacent slices of a 2.5D stack: the one before, the slice itself, the one after."""


class Domain(TypedDict):
    """Training stacks of one domain.

    A stack has three adjacent slices, or five: these contain the stacks of a slice and of both its neighbours, so
    that a network of three slices can translate all three and another can translate the results back.
    """

    image: Tensor
    """[B, slices * M, H, W] float32 in [-1, 1], slice-major around the centre slice; -1 wherever `body` is false."""
    body: Tensor
    """[B, slices, H, W] bool, the voxels of tissue in each of the slices."""
    id: list[str]
    """[B] as in a batch, of the centre slice."""
    patient: list[str]
    index: list[int]


class Batch(TypedDict, total=False):
    """One batch of any data set.

    Training batches hold samples of many patients, and never a mask where training is weakly supervised or of
    whole images. Validation, test and predict batches of sliced volumes hold all slices of ONE patient, in slice
    order, so that B = S; those of cases hold `eval_batch_size` cases, of any patients, each case once. `mask`
    exists if the data set has one, and is read by metrics only.
    """

    image: Tensor | dict[str, Tensor]
    """[B, C, *spatial] float32, normalised; or one such tensor per named input.

    With named inputs of which some may be missing there is also `present`, [B, inputs] bool in the order of
    the inputs; a missing input is zero.
    """
    label: Tensor
    """[B, K] float32 in {0, 1}, one column per foreground class; or [B] int64 for one class per sample.

    Absent where the data set has no labels.
    """
    mask: Tensor | dict[str, Tensor]
    """[B, *spatial] uint8 class indices, 0 is background; or one such tensor per named input. For evaluation only."""
    body: Tensor
    """[B, *spatial] bool, the voxels of tissue, found from the intensities alone (no annotation)."""
    missing: Tensor
    """[B, C] float32, the value of each channel where it is missing; only of slices with several modalities."""
    id: list[str]
    """[B] unique and safe as a file name."""
    patient: list[str]
    """[B] the patient of each sample."""
    index: list[int]
    """[B] slice number within its volume, as in the source, or -1 if unknown; for volumes that of the first slice."""
    source: list[str]
    """[B] the file each sample was cut from, or an empty string; for several inputs the file of the first."""
    placement: list[Placement | None]
    """[B] placement of the image in its source, to bring maps back; for slices the placement of their whole batch."""
    spacing: Tensor
    """[B, spatial axes] float32 mm per pixel; NaN where unknown."""
    a: Domain
    """Unpaired training only: stacks of domain a, and as many of domain b under `b`; sample i of both is a random pair.

    Such a batch has only these two keys. Evaluation batches of the same data are all slices of ONE subject as
    `image` [S, 3 * M, H, W], whose memory the stacks share (never write into it), with `body`, `domain`, `intensity`,
    `files` and, where known, `mask` and `counterpart`.
    """
    b: Domain
    """See `a`."""
    domain: list[str]
    """[B] `a` or `b`, the domain of each sample."""
    intensity: Tensor
    """[B, M, 2] float32, intensities of the source that correspond to -1 and 1 in `image`, per modality."""
    files: list[dict[str, str]]
    """[B] modality → the source's file; the same file for all if it holds them as channels."""
    counterpart: Tensor
    """[B, M, H, W] float32 in [-1, 1], the same slices from the other domain's scanner. For evaluation only."""


class Prediction(TypedDict, total=False):
    """Result of `predict_step` for a batch; maps are named, e.g. `cam`, `refined`, `segmentation`.

    Classifiers of whole images give `logits` and `probability`, and no maps, which explainers make. Translators
    give `translated`, `reconstructed` and `inverted`, and none of them for a domain that a one-sided translator does
    not translate.
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
    """As in the batch, if known."""
    maps: dict[str, Tensor]
    """Name → [B, K, *spatial] float32 in [0, 1], at the size of the batch's image."""
    domain: list[str]
    """As in the batch: the domain of each sample before translation."""
    translated: Tensor
    """[S, M, H, W] float32 in [-1, 1], slices translated to the other domain; -1 outside the tissue."""
    reconstructed: Tensor
    """[S, M, H, W] float32 in [-1, 1], translated slices translated back; absent in models of one direction."""
    inverted: Tensor
    """[S, M, H, W] float32 in [-1, 1], translated slices undone by the inverse of the translation, where it has one."""
