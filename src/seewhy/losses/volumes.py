"""Dice and cross-entropy of volumes, with labels that say nothing left out, and over several outputs of a network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DeepSupervision", "DiceCrossEntropy", "region_masks"]


class DiceCrossEntropy(nn.Module):
    """Soft Dice loss (Milletari 2016) plus cross-entropy, by default over the foreground as nnU-Net has it.

    Without a label to ignore it is MONAI's `DiceCELoss`. Of classes, which exclude each other, it takes the softmax;
    of regions, which may overlap, the sigmoid of each channel, and binary cross-entropy.

    Args:
        regions: [[labels of a region], …]; None stands for classes.
        ignore_label: label of voxels that count in neither part.
        dice_weight: factor on the Dice loss.
        cross_entropy_weight: factor on the cross-entropy.
        include_background: count class 0 in the Dice loss; it always counts in the cross-entropy.
        batch_dice: one Dice over all voxels of a batch, instead of one per sample.
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
        known = None if self.ignore_label is None else (labels != self.ignore_label)[:, None]
        if self.regions is None:
            target = F.one_hot(_without(labels, self.ignore_label), logits.shape[1]).movedim(-1, 1).to(logits)
            probability = logits.softmax(dim=1)
            pixelwise = F.cross_entropy(logits, _without(labels, self.ignore_label), reduction="none")[:, None]
        else:
            target = region_masks(labels, self.regions).to(logits)
            probability = logits.sigmoid()
            pixelwise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if known is not None:
            probability, target = probability * known, target * known
        entropy = pixelwise.mean() if known is None else _masked_mean(pixelwise, known.expand_as(pixelwise))
        dice: Tensor = self.dice(probability, target)
        return self.dice_weight * dice + self.cross_entropy_weight * entropy


class DeepSupervision(nn.Module):
    """A loss at several resolutions: each output weighs half of the one before it (Isensee 2021), all together 1.

    Args:
        loss: takes logits and labels.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            outputs: [B, K, *spatial] each, the finest first; the labels are brought to the size of each by taking
                the nearest.
            mask: [B, *spatial] integer labels.
        """
        weights = [0.5**place for place in range(len(outputs))]
        losses = [
            weight / sum(weights) * self.loss(output, _at_size(mask, output.shape[2:]))
            for weight, output in zip(weights, outputs, strict=True)
        ]
        return torch.stack(losses).sum()


def region_masks(labels: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Where any label of a region is, [B, R, *spatial] bool, of labels [B, *spatial]."""
    return torch.stack([torch.isin(labels, torch.tensor(list(own), device=labels.device)) for own in regions], dim=1)


def _without(labels: Tensor, ignore: int | None) -> Tensor:
    """Labels with 0 in place of the one to ignore, which is masked elsewhere."""
    return labels if ignore is None else torch.where(labels == ignore, 0, labels)


def _masked_mean(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum().clamp_min(1)


def _at_size(mask: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(mask.shape[1:]) == tuple(size):
        return mask
    return F.interpolate(mask[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].to(mask.dtype)
