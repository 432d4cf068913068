"""How far two sets of images are from looking alike, without any pairing: distances between sets of their patches.

How much closer a translation brings the scans of one domain to those of the other, without any pairing.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from seewhy.metrics.translation.scores import DIRECTIONS

__all__ = ["TranslationDistance", "directions", "draw_patches", "sliced_wasserstein", "wasserstein"]


def wasserstein(first: Tensor, second: Tensor) -> Tensor:
    """Distance of earth movers on a line, exactly: ∫ |F⁻¹ - G⁻¹| of both quantile functions (Rabin 2011, eq. 3, p = 1).

    Args:
        first: [K, N] values, K pairs of sets at a time.
        second: [K, L] values; N and L need not be equal.

    Returns:
        [K] distances.
    """
    first, second = first.sort(dim=1).values, second.sort(dim=1).values
    n, m = first.shape[1], second.shape[1]
    if n == m:
        return (first - second).abs().mean(dim=1)
    # Both quantile functions are steps; between two borders of either, both are constant. Whole numbers stay exact.
    borders = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    lengths = borders.diff(prepend=borders.new_zeros(1)).to(first) / (n * m)
    places = ((borders - 1) // m).to(first.device), ((borders - 1) // n).to(first.device)
    return ((first[:, places[0]] - second[:, places[1]]).abs() * lengths).sum(dim=1)


def directions(size: int, count: int, *, seed: int = 0) -> Tensor:
    """Random unit vectors [size, count] float32, the same for the same seed on every device."""
    drawn = torch.randn(size, count, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=0)


def sliced_wasserstein(first: Tensor, second: Tensor, *, projections: int = 256, seed: int = 0) -> float:
    """Mean `wasserstein` distance of two sets of vectors over random directions (Rabin 2011, eq. 8).

    Args:
        first: [N, D] float.
        second: [L, D] float.
        projections: number of directions.
        seed: of the directions.
    """
    ways = directions(first.shape[1], projections, seed=seed).to(first)
    found = [wasserstein((first @ part).T, (second @ part).T).sum() for part in ways.split(64, dim=1)]
    return float(torch.stack(found).sum()) / projections


def draw_patches(
    image: Tensor, body: Tensor, *, count: int = 1024, side: int = 7, levels: int = 3, seed: int = 0
) -> list[Tensor]:
    """Random patches of tissue at several sizes, as vectors (Karras 2018, section 5).

    Unlike there, sets are not normalised, since brightness and contrast are what scanners differ in, and a level is
    an image halved once more instead of a band of a pyramid. Where patches lie depends on tissue and seed alone, so
    two images of the same head are compared at the same places.

    Args:
        image: [S, M, H, W].
        body: [S, H, W] bool, the tissue that centres of patches are drawn from.
        count: patches per level.
        side: of a patch in pixels, odd.
        levels: sizes; each has half as many pixels as the one before.
        seed: of the places.

    Returns:
        For each level [count, M * side * side] float32, without rows where there is no tissue.
    """
    random = torch.Generator().manual_seed(seed)
    found = []
    for pixels, tissue in _halved(image.float(), body, levels):
        places = tissue.flatten().nonzero().flatten()
        drawn = torch.rand(count if len(places) else 0, generator=random, dtype=torch.float64) * len(places)
        chosen = places[drawn.long().to(places.device)]
        rows, columns = tissue.shape[1:]
        s, r, c = chosen // (rows * columns), chosen // columns % rows, chosen % columns
        around = F.pad(pixels, [side // 2] * 4, value=-1.0).unfold(2, side, 1).unfold(3, side, 1)
        found.append(around[s, :, r, c].flatten(1))
    return found


def _halved(image: Tensor, body: Tensor, levels: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Image and tissue at each size."""
    tissue = body
    for level in range(levels):
        if level:
            image, tissue = F.avg_pool2d(image, 2), F.max_pool2d(tissue.float(), 2).bool()
        yield image, tissue


PATCHES = 512
"""Patches of each size and scan."""

Patches = list[Tensor]
Scan = tuple[Patches, Patches | None]
"""Patches of a scan as it is and as it was translated."""


class TranslationDistance:
    """Distance of translated scans to real ones of the other domain, as a share of that of untranslated scans.

    For the direction a → b with real scans A and B and translations A': Σ W(A', B) / Σ W(A, B), where W is the
    sliced Wasserstein distance of their patches and Σ runs over sizes of patches (`draw_patches`). The identity has
    1, whatever the data; smaller is better, and 0 is out of reach, since the heads of both domains differ. It says
    nothing of whether the same head is shown still.
    """

    def __init__(self) -> None:
        self._scans: dict[tuple[str, str], Scan] = {}

    def update(self, image: Tensor, translated: Tensor | None, body: Tensor, *, domain: str, subject: str) -> None:
        """Add a scan.

        Args:
            image: [S, M, H, W], as it is.
            translated: the same, as the other domain's; None where nothing translates it.
            body: [S, H, W] bool.
            domain: `a` or `b`, the one it is of.
            subject: whose; one that comes twice counts once.
        """
        own = _drawn(image, body)
        self._scans[domain, subject] = own, None if translated is None else _drawn(translated, body)

    def reset(self) -> None:
        """Forget all scans."""
        self._scans = {}

    def compute(self) -> dict[str, float]:
        """Direction → share, for those with translations and real scans of their target; the same on every rank."""
        scans = self._gathered()
        found = {}
        for source, target in ("ab", "ba"):
            chosen = [scans[key] for key in sorted(scans) if key[0] == source]
            pairs = [(own, made) for own, made in chosen if made is not None]
            real = _joined([scans[key][0] for key in sorted(scans) if key[0] == target])
            if pairs and real:
                before, after = (_joined([pair[place] for pair in pairs]) for place in (0, 1))
                found[DIRECTIONS[source]] = _distance(after, real) / max(_distance(before, real), 1e-12)
        return found

    def _gathered(self) -> dict[tuple[str, str], Scan]:
        if not (dist.is_available() and dist.is_initialized()):
            return self._scans
        parts: list[dict[tuple[str, str], Scan]] = [{}] * dist.get_world_size()
        dist.all_gather_object(parts, self._scans)
        return {key: scan for part in parts for key, scan in part.items()}


def _drawn(image: Tensor, body: Tensor) -> Patches:
    return [patches.cpu() for patches in draw_patches(image, body, count=PATCHES)]


def _joined(scans: list[Patches]) -> Patches:
    """Patches of several scans, size by size."""
    return [torch.cat(parts) for parts in zip(*scans, strict=True)]


def _distance(first: Patches, second: Patches) -> float:
    return sum(sliced_wasserstein(one, other) for one, other in zip(first, second, strict=True))
