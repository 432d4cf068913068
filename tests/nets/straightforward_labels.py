"""The published order of work, restated plainly: what our labels are compared with, and what our speed is.

Written from the description in AFA (Ru 2022), for clarity and not for speed: every scale and mirror image of every
image is computed, scale 1 included; the refinement is done per image and threshold, its weights anew each time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

DILATIONS = (1, 2, 4, 8, 12, 24)


def resize(maps: Tensor, size) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


@torch.no_grad()
def multi_scale_cam(encoder, classifier, image, scales=(1.0, 0.5, 1.5), *, normalize="minmax", attention=True):
    """Maps [B, K, H, W], and attention and token grid of the largest scale."""
    seen, per_scale = {}, []
    for scale in scales:
        size = [round(side * scale) for side in image.shape[-2:]]
        scaled = resize(image, size)
        features = encoder(torch.cat([scaled, scaled.flip(-1)]), attention=attention)
        local = classifier.activation_map(features.maps[-1])
        seen[scale] = ([layer[: len(image)] for layer in features.attention], tuple(local.shape[-2:]))
        large = resize(local, image.shape[-2:])
        straight, mirrored = large[: len(image)], large[len(image) :].flip(-1)
        if normalize == "minmax":
            per_scale.append(torch.maximum(straight, mirrored).clamp(min=0))
        else:
            per_scale.append((straight + mirrored) / 2)
    total = sum(per_scale)
    if normalize == "minmax":
        total = total - total.amin(dim=(2, 3), keepdim=True)
        cam = total / (total.amax(dim=(2, 3), keepdim=True) + 1e-5)
    else:
        cam = (total / len(scales)).sigmoid()
    return cam, *seen[max(scales)]


@torch.no_grad()
def refine(image: Tensor, maps: Tensor, iterations: int = 10) -> Tensor:
    """Pixel-adaptive refinement of one image [1, C, h, w] and its maps [1, K, h, w]."""

    def neighbours(x: Tensor) -> Tensor:
        stacked = []
        for dilation in DILATIONS:
            padded = F.pad(x, (dilation,) * 4, mode="replicate")
            patches = F.unfold(padded, 3, dilation=dilation).unflatten(1, (x.shape[1], 9)).unflatten(-1, x.shape[-2:])
            stacked.append(patches[:, :, [0, 1, 2, 3, 5, 6, 7, 8]])
        return torch.cat(stacked, dim=2)  # [1, channels, 48, h, w]

    around = neighbours(image)
    difference = (around - image.unsqueeze(2)).abs()
    likeness = -((difference / (around.std(dim=2, keepdim=True) + 1e-8) / 0.3) ** 2)
    weights = likeness.mean(dim=1, keepdim=True).softmax(dim=2)
    root = math.sqrt(2)
    distance = torch.tensor([d * f for d in DILATIONS for f in (root, 1, root, 1, 1, root, 1, root)])
    nearness = (-((distance / (distance.std() + 1e-8) / 0.3) ** 2)).softmax(dim=0)
    weights = weights + 0.01 * nearness.view(1, 1, -1, 1, 1)
    for _ in range(iterations):
        maps = (neighbours(maps) * weights).sum(dim=2)
    return maps


@torch.no_grad()
def random_walk(shares: Tensor, affinity: Tensor, size, radius: int = 8) -> Tensor:
    """One step for one image: shares [C, h, w], affinity [N, N]."""
    height, width = size
    cells = [(row, column) for row in range(height) for column in range(width)]
    near = torch.tensor([[max(abs(a - c), abs(b - d)) <= radius for c, d in cells] for a, b in cells])
    kept = torch.where(near, affinity, 0.0) ** 2
    transition = kept / (kept.sum(dim=0, keepdim=True) + 0.1)
    return (shares.flatten(1) @ transition).unflatten(1, (height, width))


@torch.no_grad()
def pixel_labels(image, cam, label, *, low=0.35, high=0.55, affinity=None, size=None) -> Tensor:
    """Labels [B, H, W] of annotated classes [B, K], by walk where an affinity [B, N, N] is given."""
    shape = image.shape[-2:]
    half = [side // 2 for side in shape]
    results = []
    for b in range(len(image)):
        classes = [0, *[k + 1 for k in range(label.shape[1]) if label[b, k] > 0.5]]
        decisions = {}
        for background in (high, low):
            maps = cam[b : b + 1] if affinity is None else resize(cam[b : b + 1], size)
            scores = torch.cat([torch.full_like(maps[:, :1], background), maps], dim=1)
            shares = scores[:, classes].softmax(dim=1)
            if affinity is not None:
                shares = random_walk(shares[0], affinity[b], size)[None]
            refined = refine(resize(image[b : b + 1], half), resize(shares, half))
            decisions[background] = torch.tensor(classes)[resize(refined, shape).argmax(dim=1)[0]]
        result = decisions[high].clone()
        result[decisions[high] == 0] = 255
        result[(decisions[high] == 0) & (decisions[low] == 0)] = 0
        results.append(result)
    return torch.stack(results)
