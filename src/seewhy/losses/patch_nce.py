"""The contrastive loss of patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["PatchNCELoss"]


class PatchNCELoss(nn.Module):
    """A patch of a fake should be most like the patch it was made of (PatchNCE, Park 2020, eq. 3 and 4).

    Cross-entropy of telling that patch from the others of the same image, by cosine similarity over a temperature;
    mean over patches, images and maps.

    Args:
        temperature: τ, above 0.
    """

    def __init__(self, *, temperature: float = 0.07) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"model.losses.temperature={temperature} must be above 0")
        self.temperature = temperature

    def forward(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        """Scalar loss, in float32.

        Args:
            queries: unit vectors [B, P, dim] of the fake's patches, of each map.
            keys: those of the same places of its source; they give no gradient.
        """
        losses = []
        for query, key in zip(queries, keys, strict=True):
            with torch.autocast(query.device.type, enabled=False):
                logits = query.float() @ key.detach().float().mT / self.temperature
            right = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
            losses.append(F.cross_entropy(logits.flatten(0, 1), right.flatten()))
        return torch.stack(losses).mean()
