"""Slices as small pictures of the tissue: which ones, and cut how."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["chosen_slices", "tissue_squares"]

CONTENT = 0.1
"""Least tissue of a slice, as a share of that in the subject's fullest one."""


def chosen_slices(body: Tensor, count: int) -> list[int]:
    """Slices spread evenly over those that show enough of the head.

    Args:
        body: [S, H, W] bool.
        count: how many; 0 is all of them.
    """
    content = body.flatten(1).sum(dim=1).cpu().numpy()
    enough = np.flatnonzero(content >= max(1.0, CONTENT * content.max()))
    if count and len(enough) > count:
        enough = enough[np.linspace(0, len(enough) - 1, count).round().astype(int)]
    return [int(number) for number in enough]


def tissue_squares(image: Tensor, body: Tensor, size: int) -> Tensor:
    """The square around each slice's tissue, resized with the average over what becomes one pixel.

    So neither the size of the field of view nor where the head lies in it tells one site from another; that of a
    head does, if the sites' heads differ.

    Args:
        image: [N, M, H, W] in [-1, 1], -1 outside the tissue.
        body: [N, H, W] bool; each slice has some.
        size: side of the result.

    Returns:
        [N, M, size, size] float32.
    """
    found = []
    for plane, inside in zip(image.float(), body, strict=True):
        rows, columns = (torch.nonzero(inside.any(dim=axis)).flatten() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
        side = max(height, width)
        above, before = (side - height) // 2, (side - width) // 2
        cut = plane[:, top : top + height, left : left + width]
        cut = F.pad(cut, (before, side - width - before, above, side - height - above), value=-1.0)
        found.append(F.interpolate(cut[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0])
    return torch.stack(found)
