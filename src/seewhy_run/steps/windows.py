"""Segment a volume with overlapping windows whose logits are blended, as `predict.py volume.input=…` does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.activations import sigmoid, softmax
from seewhy_run.arrays.windows import WINDOWS, blending_weights, window_starts
from seewhy_run.errors import RunError
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State

__all__ = ["SegmentWindows"]

EMPTY_LOGIT = 12.0
"""Logit of the background in windows that hold one value only, which the network does not see."""
MODES = ("binary", "multiclass", "regions")


@dataclass(frozen=True, kw_only=True)
class SegmentWindows:
    """Makes `probability` ([Z, Y, X] of the foreground if `binary`, else [K, Z, Y, X]) and `labels` [Z, Y, X].

    Attributes:
        graph: name of the network, from [B, C, *patch] to logits [B, K, *patch].
        patch: voxels of a window along Z, Y and X.
        overlap: share of a window that its neighbour also covers.
        window: profile of the weights.
        batch: windows at a time.
        mirror_axes: axes (0 is Z) along which windows are mirrored and averaged.
        skip_empty: take windows that hold one value only in each channel as background.
        mode: `binary` (one foreground class), `multiclass` or `regions` (a sigmoid each).
        threshold: probability above which a voxel is foreground, for `binary` and `regions`.
        class_order: label of each region; later regions overwrite earlier ones.
    """

    graph: str
    patch: tuple[int, int, int]
    overlap: float
    window: str
    batch: int
    mirror_axes: tuple[int, ...]
    skip_empty: bool
    mode: str
    threshold: float
    class_order: tuple[int, ...]

    needs: ClassVar[tuple[str, ...]] = ("image", "normalize")
    gives: ClassVar[tuple[str, ...]] = ("probability", "labels")

    def __post_init__(self) -> None:
        if self.window not in WINDOWS or self.mode not in MODES:
            raise RunError(f"segment_windows: window={self.window!r} or mode={self.mode!r} is unknown")
        if not 0 <= self.overlap < 1 or self.batch < 1 or not 0 < self.threshold < 1:
            raise RunError(f"segment_windows: overlap={self.overlap}, batch={self.batch}, threshold={self.threshold}")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Segment the volume of a case."""
        logits = self._blend(state.values["image"], state.values["normalize"], graphs[self.graph])
        cut = np.float32(math.log(self.threshold / (1 - self.threshold)))
        if self.mode == "binary":
            foreground = logits[0] if len(logits) == 1 else logits[1] - logits[0]
            probability, labels = sigmoid(foreground), (foreground > cut).astype(np.uint8)
        elif self.mode == "multiclass":
            probability, labels = softmax(logits, axis=0), logits.argmax(0)
        else:
            probability, labels = sigmoid(logits), np.zeros(logits.shape[1:], int)
            for region, label in zip(logits, self.class_order, strict=True):
                labels[region > cut] = label
        small = np.uint8 if labels.max(initial=0) < 256 else np.uint16
        state.values |= {"probability": probability, "labels": labels.astype(small)}

    def _blend(self, image: NDArray[Any], normalize: Sequence[Any], graph: Graph) -> NDArray[np.float32]:
        """Logits [K, Z, Y, X] of the whole volume."""
        shape = image.shape[1:]
        starts = [window_starts(n, p, self.overlap) for n, p in zip(shape, self.patch, strict=True)]
        weights = [blending_weights(p, s, self.window) for p, s in zip(self.patch, starts, strict=True)]
        total: NDArray[np.float32] | None = None
        places = itertools.product(*(range(len(axis)) for axis in starts))
        while group := list(itertools.islice(places, self.batch)):
            corners = [[axis[i] for axis, i in zip(starts, place, strict=True)] for place in group]
            patches = [self._cut(image, corner, normalize) for corner in corners]
            seen = [patch for patch in patches if patch is not None]
            made: Iterator[NDArray[np.float32]] = iter(self._predict(graph, np.stack(seen)) if seen else ())
            for place, corner, patch in zip(group, corners, patches, strict=True):
                logits = None if patch is None else next(made)
                if total is None:
                    count = self._count(graph) if logits is None else len(logits)
                    total = np.zeros((count, *shape), np.float32)
                logits = self._empty(len(total)) if logits is None else logits
                z, y, x = (axis[i] for axis, i in zip(weights, place, strict=True))
                added = logits * (z[:, None, None] * (y[:, None] * x))
                inside, own = _overlap(corner, self.patch, shape)
                total[(slice(None), *inside)] += added[(slice(None), *own)]
        assert total is not None
        return total

    def _cut(self, image: NDArray[Any], corner: Sequence[int], normalize: Sequence[Any]) -> NDArray[np.float32] | None:
        """Normalised window [C, *patch], zero beyond the volume; None if it is skipped."""
        inside, own = _overlap(corner, self.patch, image.shape[1:])
        values = image[(slice(None), *inside)]
        if self.skip_empty and all((channel == channel.flat[0]).all() for channel in values):
            return None
        result = np.zeros((len(image), *self.patch), np.float32)
        result[(slice(None), *own)] = [rule(values, channel) for channel, rule in enumerate(normalize)]
        return result

    def _predict(self, graph: Graph, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [B, K, *patch], averaged over mirrors."""
        axes = sorted(set(self.mirror_axes))
        flips = [tuple(2 + a for a in c) for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
        total: Any = None
        for flip in flips:
            (logits,) = graph(np.flip(patches, flip) if flip else patches).values()
            logits = np.flip(logits, flip) if flip else logits
            total = logits if total is None else total + logits
        return np.asarray(total / np.float32(len(flips)) if len(flips) > 1 else total)

    def _count(self, graph: Graph) -> int:
        """Channels of the logits, from one window of zeros."""
        (logits,) = graph(np.zeros((1, *(int(side) for side in graph.inputs[0].shape[1:])), np.float32)).values()
        return int(logits.shape[1])

    def _empty(self, channels: int) -> NDArray[np.float32]:
        """Logits [K, 1, 1, 1] of a skipped window: background."""
        empty = np.zeros((channels, 1, 1, 1), np.float32)
        if self.mode == "regions" or channels == 1:
            empty -= EMPTY_LOGIT
        else:
            empty[0] = EMPTY_LOGIT
        return empty


def _overlap(
    corner: Sequence[int], patch: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Voxels of a window that lie in the volume, numbered as in the volume and as in the window."""
    spans = [(max(c, 0), min(c + p, n)) for c, p, n in zip(corner, patch, shape, strict=True)]
    inside = tuple(slice(low, high) for low, high in spans)
    return inside, tuple(slice(low - c, high - c) for (low, high), c in zip(spans, corner, strict=True))
