"""A volume that fits into memory, predicted by the same engine: validation during training, and small scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.io.zarr.opening import ArraySource, VolumeSource
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.writer import ArraySink
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import Costs
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import make_plan

__all__ = ["predict_array"]

ENOUGH = 1 << 62


def predict_array(
    image: NDArray[Any] | VolumeSource,
    predict: Callable[[Tensor], Tensor],
    *,
    patch: Sequence[int],
    head: OutputFormat,
    overlap: float = 0.5,
    window: str = "gaussian",
    normalization: Sequence[Mapping[str, Any]] = ({"scheme": "none"},),
    batch_size: int = 1,
    skip_empty: bool = False,
    device: torch.device | str | None = None,
) -> NDArray[Any]:
    """Predict a whole volume into an array.

    Args:
        image: [C, Z, Y, X], or an open volume.
        predict: from patches [B, C, *patch] float32 to logits [B, K, *patch]; B is always `batch_size`.
        patch: ZYX.
        head: what is returned for the blended logits.
        overlap: as for `PatchGrid`.
        window: as for `Window`.
        normalization: as for `Normalization`.
        batch_size: patches at a time.
        skip_empty: as for `VolumeEngine`.
        device: where the network runs; None is the `device` of `predict`, as a `PatchPredictor` has one, else the CPU.

    Returns:
        [Z, Y, X] or [planes, Z, Y, X] of the head's type; with ``stored="logits"`` float16 logits.
    """
    if device is None:
        device = getattr(predict, "device", "cpu")
    source = image if isinstance(image, VolumeSource) else ArraySource(image)
    grid = PatchGrid(shape=source.shape[1:], patch=patch, overlap=overlap)
    costs = Costs(
        grid=grid,
        head=head,
        channels=source.shape[0],
        itemsize=source.dtype.itemsize,
        chunks=source.chunks,
        shard=grid.shape,
        batch_size=batch_size,
    )
    result = np.zeros(head.shape(grid.shape), dtype=head.dtype)
    engine = VolumeEngine(
        source=source,
        sink=ArraySink(result),
        window=BlendingWindow(grid, kind=window),
        head=head,
        normalize=ChannelNormalization(normalization, channels=source.shape[0]),
        plan=make_plan(costs, memory_budget=ENOUGH),
        skip_empty=skip_empty,
        device=device,
    )
    engine.run(predict)
    return result
