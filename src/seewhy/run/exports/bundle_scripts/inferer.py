"""Inferer of evenly spaced windows whose logits are blended."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from seewhy_run.arrays.windows import blending_weights, window_starts

__all__ = ["EvenWindows"]

EMPTY_LOGIT = 12.0
"""Logit of the background in windows that hold one value only, which the network does not see."""


class EvenWindows(Inferer):
    """Sliding windows as nnU-Net places them: evenly spaced, the first and the last at the border.

    Args:
        roi_size: voxels of a window.
        overlap: share of a window that its neighbour also covers.
        mode: profile of the weights: gaussian, nnunet, hann or constant.
        mirror_axes: axes (0 is the first after the channels) along which windows are mirrored and averaged.
        skip_empty: take windows that hold one value only in each channel as background.
        several: whether each channel is a region of its own, with a sigmoid.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        overlap: float = 0.5,
        mode: str = "gaussian",
        mirror_axes: Sequence[int] = (),
        skip_empty: bool = True,
        several: bool = False,
    ) -> None:
        super().__init__()
        self.roi_size, self.overlap, self.mode = tuple(roi_size), overlap, mode
        self.mirror_axes, self.skip_empty, self.several = tuple(mirror_axes), skip_empty, several

    def __call__(self, inputs: Tensor, network: Any, raw: Tensor | None = None, **options: Any) -> Tensor:
        """Logits [B, K, *] of images [B, C, *].

        Args:
            inputs: normalised images.
            network: from windows [B, C, *roi_size] to logits [B, K, *roi_size].
            raw: the images before the normalisation, in which empty windows are found; None: `inputs`.
            options: of the network.
        """
        given = inputs if raw is None else raw
        results = [self._blend(image, other, network, options) for image, other in zip(inputs, given, strict=True)]
        return torch.stack(results)

    def _blend(self, image: Tensor, raw: Tensor, network: Any, options: dict[str, Any]) -> Tensor:
        shape = image.shape[1:]
        starts = [window_starts(n, p, self.overlap) for n, p in zip(shape, self.roi_size, strict=True)]
        weights = [
            torch.from_numpy(blending_weights(p, s, self.mode)).to(image.device)
            for p, s in zip(self.roi_size, starts, strict=True)
        ]
        total: Tensor | None = None
        empty = []
        for place in itertools.product(*(range(len(axis)) for axis in starts)):
            corner = [axis[i] for axis, i in zip(starts, place, strict=True)]
            inside, own = _overlap(corner, self.roi_size, shape)
            z, y, x = (axis[i] for axis, i in zip(weights, place, strict=True))
            weight = z[:, None, None] * (y[:, None] * x)
            values = raw[(slice(None), *inside)].flatten(1)
            if self.skip_empty and bool((values == values[:, :1]).all()):
                empty.append((inside, weight[own]))
                continue
            patch = image.new_zeros((len(image), *self.roi_size))
            patch[(slice(None), *own)] = image[(slice(None), *inside)]
            logits = self._predict(patch[None], network, options)[0]
            if total is None:
                total = logits.new_zeros((len(logits), *shape))
            total[(slice(None), *inside)] += (logits * weight)[(slice(None), *own)]
        if total is None:
            one = self._predict(image.new_zeros((1, len(image), *self.roi_size)), network, options)[0]
            total = one.new_zeros((len(one), *shape))
        for inside, weight in empty:
            total[(slice(None), *inside)] += self._background(total) * weight
        return total

    def _predict(self, patch: Tensor, network: Any, options: dict[str, Any]) -> Tensor:
        axes = sorted(set(self.mirror_axes))
        total: Any = 0
        for flip in _flips(axes):
            logits = network(patch.flip(flip) if flip else patch, **options)
            logits = logits[0] if isinstance(logits, list | tuple) else logits
            total = total + (logits.flip(flip) if flip else logits)
        result: Tensor = total / 2 ** len(axes)
        return result

    def _background(self, logits: Tensor) -> Tensor:
        """Logits [K, 1, 1, 1] of a skipped window."""
        result = logits.new_zeros((len(logits), 1, 1, 1))
        if self.several or len(logits) == 1:
            return result - EMPTY_LOGIT
        result[0] = EMPTY_LOGIT
        return result


def _flips(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All sets of axes of a batch [B, C, *], the empty one first."""
    for count in range(len(axes) + 1):
        for chosen in itertools.combinations(axes, count):
            yield tuple(2 + axis for axis in chosen)


def _overlap(
    corner: Sequence[int], patch: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Voxels of a window that lie in the volume, numbered as in the volume and as in the window."""
    spans = [(max(c, 0), min(c + p, n)) for c, p, n in zip(corner, patch, shape, strict=True)]
    own = tuple(slice(low - c, high - c) for (low, high), c in zip(spans, corner, strict=True))
    return tuple(slice(low, high) for low, high in spans), own
