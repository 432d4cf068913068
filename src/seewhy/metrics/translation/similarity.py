"""How alike two scans of one head are: SSIM, PSNR and mean errors over the tissue, slice by slice and as a whole.

Only scans of the same voxels may be compared: a reconstruction with its own input, a translation with the same head
on the other scanner. Against another patient's slice these figures measure who was drawn, not the translation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

__all__ = ["METRICS", "similarity", "slice_similarity"]

METRICS = ("ssim", "psnr", "mae", "mse")
REACH = 5
"""Pixels from a window's middle to its side."""
CHUNK = 16
"""Slices whose SSIM is computed at once: about 12 copies of them are kept meanwhile."""


def slice_similarity(image: Tensor, target: Tensor, body: Tensor) -> dict[str, Tensor]:
    """Similarity of every slice and modality over the slice's tissue; NaN where a slice has none.

    Values are counted from -1 and halved, so that errors are on a scale of 0 to 1. PSNR is 10 log10(1 / MSE) in dB,
    infinite for equal images. SSIM (Wang 2004, eq. 13) has Gaussian windows of 11 x 11, σ 1.5, K1 0.01, K2 0.03, and
    is averaged over the tissue's pixels; windows near its rim reach into the background.

    Args:
        image: [S, M, H, W] in [-1, 1], sides of at least 6.
        target: the same.
        body: [S, H, W] bool, where there is tissue.

    Returns:
        `ssim`, `psnr`, `mae`, `mse`, each [S, M] float32.
    """
    return similarity(image, target, body)[0]


def similarity(image: Tensor, target: Tensor, body: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`slice_similarity`, and the same over the tissue of all slices together, in one pass.

    The second one has [M] float32 values. Its SSIM is that of the slices' planes, averaged over all voxels of tissue.
    """
    if image.shape != target.shape or body.shape != (image.shape[0], *image.shape[2:]):
        shapes = [list(values.shape) for values in (image, target, body)]
        raise ValueError(f"image {shapes[0]}, target {shapes[1]} and body {shapes[2]} are not of the same voxels")
    rows, columns = _around(body)
    cut = (values[..., rows, columns].split(CHUNK) for values in (image, target, body))
    parts = [_sums(*piece) for piece in zip(*cut, strict=True)]
    sums = torch.cat(parts, dim=1)
    count = body.sum(dim=(1, 2), dtype=torch.float64)[:, None]
    return _means(sums, count), _means(sums.sum(dim=1), count.sum(dim=0))


def _around(body: Tensor) -> tuple[slice, slice]:
    """Rows and columns that windows at tissue reach; what lies beyond would be computed for nothing."""
    found = []
    for axis in (2, 1):
        places = torch.nonzero(body.any(dim=0).any(dim=axis - 1)).flatten()
        first, last = (int(places[0]), int(places[-1])) if len(places) else (0, 0)
        found.append(slice(max(first - REACH, 0), last + REACH + 1))
    return found[0], found[1]


@torch.no_grad()
def _sums(image: Tensor, target: Tensor, body: Tensor) -> Tensor:
    """[3, S, M] float64 sums over the tissue of SSIM, of absolute and of squared differences."""
    # Variances are small differences of large numbers, for which half precision and CUDA's TF32 are too coarse.
    precision = torch.float64 if image.is_cuda else torch.float32
    with torch.autocast(image.device.type, enabled=False):
        image, target = (image.to(precision) + 1) / 2, (target.to(precision) + 1) / 2
        found = structural_similarity_index_measure(
            image, target, data_range=1.0, reduction="none", return_full_image=True
        )
    difference = image - target
    values = torch.stack([found[1], difference.abs(), difference.square()])
    return torch.where(body[:, None], values, 0.0).sum(dim=(-2, -1), dtype=torch.float64)


def _means(sums: Tensor, count: Tensor) -> dict[str, Tensor]:
    """Sums over a number of voxels as measures; 0 / 0 is the NaN that is promised."""
    ssim, mae, mse = (sums / count).unbind()
    psnr = -10 * mse.log10()
    return {name: value.float() for name, value in zip(METRICS, (ssim, psnr, mae, mse), strict=True)}
