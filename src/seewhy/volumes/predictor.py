"""Predict patches with averaged folds and mirrors, and whole volumes that fit into memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.errors import CheckpointError, ConfigError, nearest
from seewhy.io.zarr.mapped import ArraySource
from seewhy.io.zarr.source import VolumeSource
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.writer import ArraySink
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import Costs
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan

__all__ = ["PRECISIONS", "PatchPredictor", "predict_array"]

PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
UNLIMITED = 1 << 62


class PatchPredictor:
    """Predicts batches of patches with one or several networks.

    Mirrors and folds run one after the other, so they cost time but no memory; their logits are added in float32 in
    a fixed order. A batch always has `batch_size` patches, the last one padded with zeros: a convolution may round
    differently for another batch size, and the output must not depend on how the work is split.

    Args:
        networks: each maps [B, C, *patch] float32 to logits [B, K, *patch]; of a list or tuple of outputs (deep
            supervision) the first is used. They are put into evaluation mode and moved to `device`.
        mirror_axes: spatial axes (0 is z) along which the network may be mirrored; the logits of all 2^n
            combinations are averaged. Empty for none.
        batch_size: patches per batch.
        precision: ``32``, ``bf16`` or ``16``: autocast of the networks; sums stay float32.
        device: where the networks run.

    Raises:
        ConfigError: unknown options.

    Example:
        >>> network = torch.nn.Conv3d(1, 2, 1)
        >>> predictor = PatchPredictor([network], mirror_axes=(0, 1, 2))
        >>> predictor(torch.zeros(1, 1, 8, 8, 8)).shape
        torch.Size([1, 2, 8, 8, 8])
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
            raise ConfigError(f"mirror axes {list(axes)}; expected some of 0 (z), 1 (y) and 2 (x)")
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}; expected 1 or more")
        self.device = torch.device(device)
        self.networks = [network.to(self.device).eval() for network in networks]
        self.batch_size, self.precision, self.mirror_axes = int(batch_size), str(precision), axes
        # Axes of [B, C, z, y, x]; the pass without mirroring comes first.
        self.flips = [tuple(2 + a for a in c) for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]

    def settings(self) -> dict[str, Any]:
        """Everything besides the weights that changes logits, as plain data for a fingerprint."""
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
                    logits = _first_output(network(image.flip(flip) if flip else image)).float()
                    logits = logits.flip(flip) if flip else logits
                    total = logits if total is None else total + logits
        assert total is not None
        passes = len(self.networks) * len(self.flips)
        return total if passes == 1 else total / passes

    def probe(self, channels: int, patch: Sequence[int]) -> int:
        """Run one patch of zeros and return the number of channels of the logits.

        Args:
            channels: of the input.
            patch: ZYX.

        Raises:
            CheckpointError: a network does not take such a patch, or its logits have another size.
            ConfigError: one patch does not fit into the GPU's memory.
        """
        image = torch.zeros((1, channels, *patch), device=self.device)
        counts = set()
        for network in self.networks:
            try:
                with torch.no_grad(), self._autocast():
                    logits = _first_output(network(image))
            except (RuntimeError, ValueError) as error:
                if isinstance(error, torch.cuda.OutOfMemoryError):
                    raise ConfigError(f"one patch of {list(patch)} does not fit on {self.device}: {error}") from error
                raise CheckpointError(_explain_failure(network, image, error)) from error
            if logits.shape[2:] != image.shape[2:]:
                raise CheckpointError(
                    f"a patch of {list(patch)} gave logits of {list(logits.shape[2:])}; expected its size"
                )
            counts.add(int(logits.shape[1]))
        if len(counts) > 1:
            raise CheckpointError(f"the networks to average give different numbers of classes: {sorted(counts)}")
        return counts.pop()

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = PRECISIONS[self.precision]
        return nullcontext() if kind is torch.float32 else torch.autocast(self.device.type, dtype=kind)


def _first_output(output: Any) -> Tensor:
    """The logits at full size, which are the first of a list from a network with deep supervision."""
    while isinstance(output, list | tuple):
        output = output[0]
    # MONAI's DynUNet stacks its heads as [B, heads, K, z, y, x] in training only, so the logits have five axes here.
    if not isinstance(output, Tensor) or output.ndim != 5:
        raise CheckpointError("the network returned no logits [B, K, z, y, x]")
    return output


def _explain_failure(network: nn.Module, image: Tensor, error: Exception) -> str:
    """Explain why a network fails on a patch: most often its first convolution has another number of channels."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    if convolutions and convolutions[0].in_channels != image.shape[1]:
        return (
            f"the network takes {convolutions[0].in_channels} input channel(s), the volume has {image.shape[1]}; "
            "choose channels of the volume, or another checkpoint"
        )
    return f"the network does not take a patch {list(image.shape[1:])}: {error}"


def predict_array(
    image: NDArray[Any] | VolumeSource,
    predict: Callable[[Tensor], Tensor],
    *,
    patch: Sequence[int],
    output_format: OutputFormat,
    overlap: float = 0.5,
    window: str = "gaussian",
    normalization: Sequence[Mapping[str, Any]] = ({"scheme": "none"},),
    batch_size: int = 1,
    skip_empty: bool = False,
    device: torch.device | str | None = None,
) -> NDArray[Any]:
    """Predict a whole volume into an array, with the engine that predicts volumes of any size.

    Args:
        image: [C, Z, Y, X], or an open volume.
        predict: maps patches [B, C, *patch] float32 to logits [B, K, *patch]; B is always `batch_size`.
        patch: ZYX.
        output_format: of the result.
        overlap: see `PatchGrid`.
        window: see `BlendingWindow`.
        normalization: see `ChannelNormalization`.
        batch_size: patches per batch.
        skip_empty: see `VolumeEngine`.
        device: where the network runs; None takes the device of a `PatchPredictor`, otherwise the CPU.

    Returns:
        [Z, Y, X] or [planes, Z, Y, X] of the format's dtype; with ``stored="logits"`` float16 logits.

    Example:
        >>> image = np.linspace(-1, 1, 20**3, dtype=np.float32).reshape(1, 20, 20, 20)
        >>> output_format = OutputFormat(mode="binary", channels=1, stored="labels")
        >>> labels = predict_array(image, lambda x: 9 * x, patch=(16, 16, 16), output_format=output_format)
        >>> labels.shape, labels.dtype.name, float(labels.mean())
        ((20, 20, 20), 'uint8', 0.5)
    """
    if device is None:
        device = predict.device if isinstance(predict, PatchPredictor) else "cpu"
    source = image if isinstance(image, VolumeSource) else ArraySource(image)
    grid = PatchGrid(shape=source.shape[1:], patch=patch, overlap=overlap)
    costs = Costs(
        grid=grid,
        output_format=output_format,
        channels=source.shape[0],
        itemsize=source.dtype.itemsize,
        chunks=source.chunks,
        shard=grid.shape,
        batch_size=batch_size,
    )
    result = np.zeros(output_format.shape(grid.shape), dtype=output_format.dtype)
    engine = VolumeEngine(
        source=source,
        sink=ArraySink(result),
        window=BlendingWindow(grid, kind=window),
        output_format=output_format,
        normalize=ChannelNormalization(normalization, channels=source.shape[0]),
        plan=make_plan(costs, memory_budget=UNLIMITED),
        skip_empty=skip_empty,
        device=device,
    )
    engine.run(predict)
    return result
