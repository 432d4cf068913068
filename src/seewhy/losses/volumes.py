"""Losses of volume segmentation: Dice and cross-entropy with ignored labels, and deep supervision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["DeepSupervision", "DiceCrossEntropy", "masked_mean", "region_masks"]


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
