"""Losses of segmentation: Dice and cross-entropy of volumes, deep supervision, and those of weak supervision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError

__all__ = [
    "AffinityLoss",
    "BalancedCrossEntropy",
    "DeepSupervision",
    "DiceCrossEntropy",
    "MultiLabelLoss",
    "affinity_loss",
    "balanced_cross_entropy",
    "masked_mean",
    "region_masks",
]


class DiceCrossEntropy(nn.Module):
    """Soft Dice loss (Milletari 2016) plus cross-entropy, by default over the foreground as nnU-Net has it.

    Without a label to ignore it equals MONAI's `DiceCELoss`. Classes, which exclude each other, use softmax; regions,
    which may overlap, use the sigmoid of each channel and binary cross-entropy.

    Args:
        regions: [[labels of a region], …]; None is for classes.
        ignore_label: label of voxels that are left out of both parts.
        dice_weight: factor on the Dice loss.
        cross_entropy_weight: factor on the cross-entropy.
        include_background: count class 0 in the Dice loss; it always counts in the cross-entropy.
        batch_dice: one Dice over all voxels of a batch, instead of one per sample.

    Example:
        >>> import torch
        >>> mask = torch.zeros(1, 4, 4, 4, dtype=torch.long)
        >>> mask[:, 1:3, 1:3, 1:3] = 1
        >>> logits = 100.0 * torch.nn.functional.one_hot(mask, 2).movedim(-1, 1).float()
        >>> round(float(DiceCrossEntropy()(logits, mask)), 4)
        0.0
    """

    def __init__(
        self,
        *,
        regions: Sequence[Sequence[int]] | None = None,
        ignore_label: int | None = None,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        include_background: bool = False,
        batch_dice: bool = True,
    ) -> None:
        super().__init__()
        self.regions = None if regions is None else [list(labels) for labels in regions]
        self.ignore_label = ignore_label
        self.dice_weight, self.cross_entropy_weight = dice_weight, cross_entropy_weight
        self.dice = DiceLoss(include_background=include_background or regions is not None, batch=batch_dice)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            logits: [B, K, *spatial].
            mask: [B, *spatial] integer labels.
        """
        logits, labels = logits.float(), mask.long()
        valid = None if self.ignore_label is None else (labels != self.ignore_label)[:, None]
        if self.regions is None:
            # The ignored label becomes 0 here; its voxels are masked below.
            classes = labels if valid is None else torch.where(valid[:, 0], labels, 0)
            target = F.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(logits)
            probability = logits.softmax(dim=1)
            pixelwise = F.cross_entropy(logits, classes, reduction="none")[:, None]
        else:
            target = region_masks(labels, self.regions).to(logits)
            probability = logits.sigmoid()
            pixelwise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if valid is not None:
            probability, target = probability * valid, target * valid
        entropy = pixelwise.mean() if valid is None else masked_mean(pixelwise, valid.expand_as(pixelwise))
        dice: Tensor = self.dice(probability, target)
        return self.dice_weight * dice + self.cross_entropy_weight * entropy


class DeepSupervision(nn.Module):
    """A loss at several resolutions: each output has half the weight of the finer one (Isensee 2021), in total 1.

    Args:
        loss: loss of logits and labels.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            outputs: [B, K, *spatial] each, the finest first; the labels are resized to each by nearest neighbour.
            mask: [B, *spatial] integer labels.
        """
        weights = [0.5**level for level in range(len(outputs))]
        losses = [
            weight / sum(weights) * self.loss(output, _resize_labels(mask, output.shape[2:]))
            for weight, output in zip(weights, outputs, strict=True)
        ]
        return torch.stack(losses).sum()


def region_masks(labels: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Masks [B, R, *spatial] bool of the regions in labels [B, *spatial].

    Example:
        >>> import torch
        >>> region_masks(torch.tensor([[0, 1, 2]]), [[1, 2], [2]]).int().tolist()
        [[[0, 1, 1], [0, 0, 1]]]
    """
    tensors = [torch.tensor(list(region), device=labels.device) for region in regions]
    return torch.stack([torch.isin(labels, region) for region in tensors], dim=1)


def masked_mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean of the values where a mask of the same shape is true; 0 for an empty mask."""
    return torch.where(where, values, 0.0).sum() / where.sum().clamp_min(1)


def _resize_labels(mask: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(mask.shape[1:]) == tuple(size):
        return mask
    return F.interpolate(mask[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].to(mask.dtype)


class MultiLabelLoss(nn.Module):
    """Binary cross-entropy of the presence of each class, averaged over classes and samples.

    Without `positive_weight` this is the multi-label soft-margin loss of the published method.

    Args:
        positive_weight: one factor per class on the loss of its positive samples, against imbalance.
        smoothing: targets become smoothing / 2 and 1 - smoothing / 2.

    Example:
        >>> import torch
        >>> loss = MultiLabelLoss(positive_weight=[3.0])
        >>> round(float(loss(torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]))), 4)  # (3 log 2 + log 2) / 2
        1.3863
    """

    def __init__(self, *, positive_weight: Sequence[float] | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise ConfigError(f"label smoothing={smoothing} must be within 0 … 1")
        self.positive_weight = None if positive_weight is None else [float(weight) for weight in positive_weight]
        self.smoothing = float(smoothing)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of logits [B, K] against labels [B, K] in {0, 1}, in float32."""
        logits = logits.float()
        target = label.to(logits) * (1.0 - self.smoothing) + self.smoothing / 2
        weight = None if self.positive_weight is None else logits.new_tensor(self.positive_weight)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def affinity_loss(affinity: Tensor, target: Tensor) -> Tensor:
    """Mean distance from 1 of alike pairs and from 0 of unlike pairs, in equal parts (Ru 2022, eq. 7).

    Args:
        affinity: [B, N, N] in [0, 1].
        target: [B, N, N] int, 1 alike, 0 unlike, anything else ignored.

    Returns:
        Scalar in [0, 1]; each part's count is increased by 1, so that a part without pairs is 0 and not NaN.

    Example:
        >>> import torch
        >>> float(affinity_loss(torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1, 0]]])))
        0.125
    """
    alike, unlike = target == 1, target == 0
    missed = torch.where(alike, 1.0 - affinity, 0.0).sum() / (alike.sum() + 1)
    false = torch.where(unlike, affinity, 0.0).sum() / (unlike.sum() + 1)
    return 0.5 * missed + 0.5 * false


class AffinityLoss(nn.Module):
    """`affinity_loss` of logits [B, N, N], computed in float32."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        return affinity_loss(torch.sigmoid(logits.float()), target)


def balanced_cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Cross-entropy in which background and foreground pixels have half of the weight each, whatever their number.

    Args:
        logits: [B, 1 + K, h, w]; resized to the target where sizes differ.
        target: [B, H, W] int64, 0 background, 1…K foreground, `ignore_index` unknown.
        ignore_index: the label of unknown pixels.

    Returns:
        Scalar float32 ≥ 0. A part without pixels contributes exactly 0 to value and gradient, so the loss stays
        finite for a batch without foreground, without background, or without any label.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> target[0, 0, 0], target[0, 4:] = 1, 255
        >>> round(float(balanced_cross_entropy(torch.zeros(1, 2, 8, 8), target)), 4)  # log 2
        0.6931
    """
    logits = logits.float()
    if logits.shape[-2:] != target.shape[-2:]:
        logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    background = target == 0
    foreground = ~background & (target != ignore_index)
    return 0.5 * masked_mean(loss, background) + 0.5 * masked_mean(loss, foreground)


class BalancedCrossEntropy(nn.Module):
    """`balanced_cross_entropy` as a module.

    Args:
        ignore_index: the label of unknown pixels.
    """

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        return balanced_cross_entropy(logits, target, ignore_index=self.ignore_index)
