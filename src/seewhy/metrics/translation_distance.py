"""How much closer a translation brings the scans of one domain to those of the other, without any pairing."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from seewhy.metrics.sliced_wasserstein import draw_patches, sliced_wasserstein
from seewhy.metrics.translation_scores import DIRECTIONS

__all__ = ["TranslationDistance"]

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
