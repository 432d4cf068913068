"""Aliases for tensors of known shapes, for signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Affinity", "Attention", "ImageBatch", "MapBatch", "ScoreBatch"]

ImageBatch: TypeAlias = "Tensor"
"""[B, C, H, W] float32, normalised."""
ScoreBatch: TypeAlias = "Tensor"
"""[B, K] float32 logits, one per foreground class."""
MapBatch: TypeAlias = "Tensor"
"""[B, K, H, W] float32, one map per foreground class."""
Attention: TypeAlias = "Tensor"
"""[B, heads, N, N] float32, N tokens in row-major order."""
Affinity: TypeAlias = "Tensor"
"""[B, N, N] float32 in [0, 1], N tokens in row-major order."""
