"""Occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, Images

__all__ = ["Occlusion"]

Window: TypeAlias = "tuple[slice, ...]"


class Occlusion(GradientExplainer):
    """How far the score falls when a window of the image is hidden (Zeiler 2014, §4.2).

    Where windows overlap, a place has the mean of those that cover it. All channels are hidden together, and one
    input at a time. A window in which hiding changes nothing costs nothing.

    Args:
        window: size in voxels, of all axes or of each (depth first); cut to the image.
        stride: distance between windows, likewise; None is half the window.
        fill: what hides.
        memory_budget: what the rows of one chunk may take.

    Raises:
        ConfigError: an option out of its range, or not one per axis.
    """

    method = "occlusion"

    def __init__(
        self,
        *,
        window: int | Sequence[int] = 16,
        stride: int | Sequence[int] | None = None,
        fill: Baseline = "mean",
        memory_budget: int | str = "1GiB",
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        for name, option in (("window", window), ("stride", stride)):
            values = [] if option is None else [option] if isinstance(option, int) else option
            if any(value < 1 for value in values):
                raise ConfigError(f"{name}={option}; expected at least 1")
        self.window, self.stride, self.fill = window, stride, check_baseline(fill)
        self.baseline = describe_baseline(fill)

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        chunk = self.budget.forward_rows(subject)
        found: list[Images] = [{} for _ in targets]
        for name in subject.inputs:
            falls, windows = self._falls(subject, name, scores, chunk)
            for maps, target in zip(found, targets, strict=True):
                maps[name] = self._spread(subject, name, falls, windows, target)
        return [Attribution(maps=maps) for maps in found]

    @torch.no_grad()
    def _falls(self, subject: ExplainedModel, name: str, scores: Tensor, chunk: int) -> tuple[Tensor, list[Window]]:
        """How far each score falls, [B, windows, K], and the windows."""
        image = subject.inputs[name]
        fill = make_baseline(image, self.fill)
        windows = self._windows(image.shape[2:])
        differs = (image != fill).any(dim=1).cpu()
        pairs = [
            (sample, number)
            for sample, number in product(range(len(image)), range(len(windows)))
            if differs[sample][windows[number]].any()
        ]
        falls = scores.new_zeros(len(image), len(windows), scores.shape[1])
        for first in range(0, len(pairs), chunk):
            part = pairs[first : first + chunk]
            rows = torch.tensor([sample for sample, _ in part], device=image.device)
            images = {other: value[rows] for other, value in subject.inputs.items()}
            for row, (sample, number) in enumerate(part):
                place = (slice(None), *windows[number])
                images[name][row][place] = fill[sample][place]
            hidden = subject.scores(images, rows=rows)
            columns = torch.tensor([number for _, number in part], device=image.device)
            falls[rows, columns] = scores[rows] - hidden
        return falls, windows

    def _spread(
        self, subject: ExplainedModel, name: str, falls: Tensor, windows: list[Window], target: Tensor
    ) -> Tensor:
        """[B, *spatial] mean fall of the windows over each place."""
        image = subject.inputs[name]
        total, cover = torch.zeros_like(image[:, 0]), torch.zeros_like(image[0, 0])
        for number, window in enumerate(windows):
            fall = subject.target_scores(falls[:, number], target)
            total[(slice(None), *window)] += fall.to(total).reshape(-1, *[1] * len(window))
            cover[window] += 1
        return total / cover.clamp_min(1)

    def _windows(self, shape: Sequence[int]) -> list[Window]:
        """Windows that cover every place whose stride does not leave it out."""
        sizes = [min(size, side) for size, side in zip(_per_axis("window", self.window, shape), shape, strict=True)]
        halves = [max(size // 2, 1) for size in sizes]
        strides = halves if self.stride is None else _per_axis("stride", self.stride, shape)
        if any(stride > size for stride, size in zip(strides, sizes, strict=True)):
            raise ConfigError(f"stride {strides} is more than the window {sizes}; places between would never be hidden")
        axes = [
            [slice(start, min(start + size, side)) for start in range(0, max(side - size, 0) + stride, stride)]
            for side, size, stride in zip(shape, sizes, strides, strict=True)
        ]
        return [window for window in product(*axes) if all(one.start < one.stop for one in window)]


def _per_axis(name: str, option: int | Sequence[int], shape: Sequence[int]) -> list[int]:
    values = [option] * len(shape) if isinstance(option, int) else list(option)
    if len(values) != len(shape):
        raise ConfigError(f"{name}={option} has {len(values)} numbers; the image has {len(shape)} spatial axes")
    return values
