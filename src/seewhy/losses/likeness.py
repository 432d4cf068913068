"""How far an image is from what it should be, in the foreground."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

__all__ = ["absolute_difference", "foreground_mean", "gradient_difference", "structural_dissimilarity"]


def foreground_mean(values: Tensor, foreground: Tensor | None) -> Tensor:
    """Mean over the foreground of all samples and channels, in float32; 0 where there is none.

    Args:
        values: [B, C, H, W].
        foreground: [B, 1, H, W] bool; None is everywhere.
    """
    values = values.float()
    if foreground is None:
        return values.mean()
    count = foreground.sum() * values.shape[1]
    return torch.where(foreground, values, 0.0).sum() / count.clamp(min=1)


def absolute_difference(image: Tensor, target: Tensor, foreground: Tensor | None = None) -> Tensor:
    """Scalar mean of |image - target|; see `foreground_mean` for shapes."""
    return foreground_mean((image.float() - target.float()).abs(), foreground)


def structural_dissimilarity(
    image: Tensor, target: Tensor, foreground: Tensor | None = None, *, value_range: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """Scalar mean of 1 - SSIM (Wang 2004, eq. 13; Gaussian windows of 11 x 11, σ 1.5) at the foreground's pixels.

    SSIM compares means as ratios, so values are counted from the darkest possible one.

    Args:
        image: [B, C, H, W], sides of at least 6.
        target: the same.
        foreground: see `foreground_mean`; windows around its pixels reach beyond it.
        value_range: darkest and brightest value.
    """
    low, high = value_range
    # Variances are small differences of large numbers, for which half precision is too coarse.
    with torch.autocast(image.device.type, enabled=False):
        found = structural_similarity_index_measure(
            image.float() - low, target.float() - low, data_range=high - low, reduction="none", return_full_image=True
        )
    return foreground_mean(1 - found[1], foreground)


def gradient_difference(image: Tensor, target: Tensor, foreground: Tensor | None = None) -> Tensor:
    """Scalar mean of the absolute difference of slopes per pixel, by Sobel's filter over 8, across and down.

    Args:
        image: [B, C, H, W].
        target: the same.
        foreground: see `foreground_mean`.
    """
    padded = F.pad(image.float() - target.float(), (1, 1, 1, 1), mode="replicate")  # the filter is linear
    # Without a tensor of its numbers, which would be sent to a GPU in every step.
    down, across = (padded.diff(dim=axis) for axis in (2, 3))
    down, across = down[:, :, :-1] + down[:, :, 1:], across[..., :-1] + across[..., 1:]  # over two pixels
    slopes = (_smoothed(down, 3).abs() + _smoothed(across, 2).abs()) / 16
    return foreground_mean(slopes, foreground)


def _smoothed(values: Tensor, axis: int) -> Tensor:
    """Each line with its neighbours, by 1, 2, 1."""
    lines = values.unfold(axis, 3, 1)
    return lines[..., 0] + 2 * lines[..., 1] + lines[..., 2]
