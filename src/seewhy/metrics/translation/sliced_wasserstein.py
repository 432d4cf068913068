"""Sliced Wasserstein distance between the patches of two unpaired sets of images.

`TranslationDistance` measures how much closer a translation brings the scans of one domain to those of the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from seewhy.metrics.translation.similarity import DIRECTIONS

__all__ = ["TranslationDistance", "draw_patches", "random_directions", "sliced_wasserstein", "wasserstein"]


def wasserstein(first: Tensor, second: Tensor) -> Tensor:
    """Exact 1D Wasserstein distance ∫ |F⁻¹ - G⁻¹| between sets of values (Rabin 2011, eq. 3, p = 1).

    Args:
        first: [K, N] values, the first sets of K pairs.
        second: [K, L] values; N and L may differ.

    Returns:
        [K] distances.

    Example:
        >>> wasserstein(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0, 2.5]])).tolist()
        [2.0]
    """
    first, second = first.sort(dim=1).values, second.sort(dim=1).values
    n, m = first.shape[1], second.shape[1]
    if n == m:
        return (first - second).abs().mean(dim=1)
    # Quantile functions are step functions, constant between neighbouring borders. Integer borders stay exact.
    borders = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    lengths = borders.diff(prepend=borders.new_zeros(1)).to(first) / (n * m)
    places = ((borders - 1) // m).to(first.device), ((borders - 1) // n).to(first.device)
    return ((first[:, places[0]] - second[:, places[1]]).abs() * lengths).sum(dim=1)


def random_directions(size: int, count: int, *, seed: int = 0) -> Tensor:
    """Random unit vectors [size, count] float32, the same for the same seed on every device."""
    drawn = torch.randn(size, count, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=0)


def sliced_wasserstein(first: Tensor, second: Tensor, *, projections: int = 256, seed: int = 0) -> float:
    """Mean `wasserstein` distance of two sets of vectors over random directions (Rabin 2011, eq. 8).

    Args:
        first: [N, D] float.
        second: [L, D] float.
        projections: number of directions.
        seed: seed of the directions.
    """
    axes = random_directions(first.shape[1], projections, seed=seed).to(first)
    sums = [wasserstein((first @ part).T, (second @ part).T).sum() for part in axes.split(64, dim=1)]
    return float(torch.stack(sums).sum()) / projections


def draw_patches(
    image: Tensor, body: Tensor, *, count: int = 1024, side: int = 7, levels: int = 3, seed: int = 0
) -> list[Tensor]:
    """Random patches of tissue at several sizes, as vectors (Karras 2018, section 5).

    Unlike in that paper, patches are not normalised, because scanners differ in brightness and contrast, and each level
    is a halved image instead of a band of a pyramid. The positions depend only on tissue and seed, so two images of the
    same head are compared at the same positions.

    Args:
        image: [S, M, H, W].
        body: [S, H, W] bool, tissue from which the patch centres are drawn.
        count: number of patches per level.
        side: side of a patch in pixels, odd.
        levels: number of image sizes; each halves the rows and columns.
        seed: seed of the positions.

    Returns:
        For each level [count, M * side * side] float32; no rows if there is no tissue.
    """
    random = torch.Generator().manual_seed(seed)
    patches = []
    for pixels, tissue in _downsample(image.float(), body, levels):
        places = tissue.flatten().nonzero().flatten()
        drawn = torch.rand(count if len(places) else 0, generator=random, dtype=torch.float64) * len(places)
        chosen = places[drawn.long().to(places.device)]
        rows, columns = tissue.shape[1:]
        s, r, c = chosen // (rows * columns), chosen // columns % rows, chosen % columns
        around = F.pad(pixels, [side // 2] * 4, value=-1.0).unfold(2, side, 1).unfold(3, side, 1)
        patches.append(around[s, :, r, c].flatten(1))
    return patches


def _downsample(image: Tensor, body: Tensor, levels: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield image and tissue at each size."""
    tissue = body
    for level in range(levels):
        if level:
            image, tissue = F.avg_pool2d(image, 2), F.max_pool2d(tissue.float(), 2).bool()
        yield image, tissue


PATCHES = 512
"""Patches per level and scan."""

Patches = list[Tensor]
Scan = tuple[Patches, Patches | None]
"""Patches of a scan and of its translation."""


class TranslationDistance:
    """Distance of translated scans to real scans of the other domain, relative to that of untranslated scans.

    For the direction a → b with real scans A and B and translations A': Σ W(A', B) / Σ W(A, B), where W is the
    sliced Wasserstein distance of their patches and Σ runs over patch levels (`draw_patches`). The identity has
    1 for any data. Smaller is better; 0 cannot be reached, because the heads of the two domains differ. Whether a
    translation still shows the same head is not measured.
    """

    def __init__(self) -> None:
        self._scans: dict[tuple[str, str], Scan] = {}

    def update(self, image: Tensor, translated: Tensor | None, body: Tensor, *, domain: str, subject: str) -> None:
        """Add a scan.

        Args:
            image: [S, M, H, W].
            translated: the same slices, translated to the other domain; None without a translation.
            body: [S, H, W] bool.
            domain: domain of the scan, `a` or `b`.
            subject: subject of the scan; the last scan of a subject counts.
        """
        translation = None if translated is None else _draw_on_cpu(translated, body)
        self._scans[domain, subject] = _draw_on_cpu(image, body), translation

    def reset(self) -> None:
        """Forget all scans."""
        self._scans = {}

    def compute(self) -> dict[str, float]:
        """Direction → relative distance, for directions with translations and real target scans; same on every rank."""
        scans = self._gathered()
        shares = {}
        for source, target in ("ab", "ba"):
            chosen = [scans[key] for key in sorted(scans) if key[0] == source]
            pairs = [(own, translated) for own, translated in chosen if translated is not None]
            real = _join_scans([scans[key][0] for key in sorted(scans) if key[0] == target])
            if pairs and real:
                before, after = (_join_scans([pair[place] for pair in pairs]) for place in (0, 1))
                shares[DIRECTIONS[source]] = _distance(after, real) / max(_distance(before, real), 1e-12)
        return shares

    def _gathered(self) -> dict[tuple[str, str], Scan]:
        if not (dist.is_available() and dist.is_initialized()):
            return self._scans
        parts: list[dict[tuple[str, str], Scan]] = [{}] * dist.get_world_size()
        dist.all_gather_object(parts, self._scans)
        return {key: scan for part in parts for key, scan in part.items()}


def _draw_on_cpu(image: Tensor, body: Tensor) -> Patches:
    return [patches.cpu() for patches in draw_patches(image, body, count=PATCHES)]


def _join_scans(scans: list[Patches]) -> Patches:
    """Patches of several scans, joined per level."""
    return [torch.cat(parts) for parts in zip(*scans, strict=True)]


def _distance(first: Patches, second: Patches) -> float:
    return sum(sliced_wasserstein(*pair) for pair in zip(first, second, strict=True))
