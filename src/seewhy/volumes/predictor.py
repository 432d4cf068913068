"""From patches to logits: folds averaged, mirrors averaged, one batch shape."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import CheckpointError, ConfigError, nearest

__all__ = ["PRECISIONS", "PatchPredictor"]

PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


class PatchPredictor:
    """Predicts batches of patches with one network or several.

    Mirrors and folds run one after the other, so that they cost time but no memory; their logits are added in
    float32 in a fixed order. A batch is always `batch_size` patches: the last one is filled up with zeros, since a
    convolution may round differently for another batch size, and output must not depend on how work was split.

    Args:
        networks: each maps [B, C, *patch] float32 to logits [B, K, *patch]; of a list or tuple of outputs (deep
            supervision) the first counts. They are put into evaluation mode and moved to `device`.
        mirror_axes: spatial axes (0 is z) along which the network may be mirrored; the logits of all 2^n
            combinations are averaged. Empty for none.
        batch_size: patches at a time.
        precision: ``32``, ``bf16`` or ``16``: autocast of the networks; sums stay float32.
        device: where the networks run.

    Raises:
        ConfigError: for unknown choices.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        *,
        mirror_axes: Iterable[int] = (),
        batch_size: int = 1,
        precision: str = "32",
        device: torch.device | str = "cpu",
    ) -> None:
        if not networks:
            raise ConfigError("a prediction needs at least one network")
        if str(precision) not in PRECISIONS:
            raise ConfigError(f"precision={precision!r} is unknown; {nearest(str(precision), PRECISIONS)}")
        axes = tuple(sorted(set(mirror_axes)))
        if any(axis not in (0, 1, 2) for axis in axes):
            raise ConfigError(f"mirror axes {list(axes)}: expected a choice of 0 (z), 1 (y) and 2 (x)")
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: expected one patch or more")
        self.device = torch.device(device)
        self.networks = [network.to(self.device).eval() for network in networks]
        self.batch_size, self.precision, self.mirror_axes = int(batch_size), str(precision), axes
        # Axes of [B, C, z, y, x]; the plain pass comes first.
        self.flips = [tuple(2 + a for a in c) for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]

    def settings(self) -> dict[str, Any]:
        """Everything that changes logits but the weights, as plain data for a fingerprint."""
        return {
            "folds": len(self.networks),
            "mirror_axes": list(self.mirror_axes),
            "batch_size": self.batch_size,
            "precision": self.precision,
        }

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Predict one batch.

        Args:
            image: [B, C, *patch] float32, B = `batch_size`, on any device.

        Returns:
            Logits [B, K, *patch] float32 on the networks' device.
        """
        image = image.to(self.device, non_blocking=True)
        total: Tensor | None = None
        with self._autocast():
            for network in self.networks:
                for flip in self.flips:
                    logits = _first(network(image.flip(flip) if flip else image)).float()
                    logits = logits.flip(flip) if flip else logits
                    total = logits if total is None else total + logits
        assert total is not None
        passes = len(self.networks) * len(self.flips)
        return total if passes == 1 else total / passes

    def probe(self, channels: int, patch: Sequence[int]) -> int:
        """Run one patch of zeros and say how many channels the logits have.

        Args:
            channels: of the input.
            patch: ZYX.

        Raises:
            CheckpointError: when a network does not take such a patch, or gives anything but logits of its size.
        """
        image = torch.zeros((1, channels, *patch), device=self.device)
        found = set()
        for network in self.networks:
            try:
                with torch.no_grad(), self._autocast():
                    logits = _first(network(image))
            except (RuntimeError, ValueError) as error:
                if isinstance(error, torch.cuda.OutOfMemoryError):
                    raise ConfigError(f"one patch of {list(patch)} does not fit on {self.device}: {error}") from error
                raise CheckpointError(_refusal(network, image, error)) from error
            if logits.shape[2:] != image.shape[2:]:
                raise CheckpointError(f"a patch of {list(patch)} gave logits of {list(logits.shape[2:])}, not its size")
            found.add(int(logits.shape[1]))
        if len(found) > 1:
            raise CheckpointError(f"the networks to average give different numbers of classes: {sorted(found)}")
        return found.pop()

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = PRECISIONS[self.precision]
        return nullcontext() if kind is torch.float32 else torch.autocast(self.device.type, dtype=kind)


def _first(output: Any) -> Tensor:
    """The logits at full size; networks with deep supervision give a list that starts with them."""
    while isinstance(output, list | tuple):
        output = output[0]
    # MONAI's DynUNet stacks its heads as [B, heads, K, z, y, x] in training only, so five axes are left here.
    if not isinstance(output, Tensor) or output.ndim != 5:
        raise CheckpointError("the network gives no logits [B, K, z, y, x]")
    return output


def _refusal(network: nn.Module, image: Tensor, error: Exception) -> str:
    """Why a network fails on a patch: most often another number of channels than its first convolution has."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    if convolutions and convolutions[0].in_channels != image.shape[1]:
        return (
            f"the network takes {convolutions[0].in_channels} input channel(s), the volume gives {image.shape[1]}; "
            "choose channels of the volume, or another checkpoint"
        )
    return f"the network does not take a patch {list(image.shape[1:])}: {error}"
