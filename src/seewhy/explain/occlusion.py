"""Occlusion maps."""

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
from seewhy.option_types import MemorySize, PositiveInt

__all__ = ["Occlusion"]

Window: TypeAlias = "tuple[slice, ...]"


class Occlusion(GradientExplainer):
    """Decrease of the score when a window of the image is hidden (Zeiler 2014, §4.2).

    Where windows overlap, a voxel gets their mean. All channels are hidden together, one input at a time. A window
    that equals its fill already is skipped.

    Args:
        window: size in voxels, of all axes or of each axis (depth first); limited to the image.
        stride: distance between windows, in the same format; None is half the window.
        fill: value of the hidden voxels.
        memory_budget: memory limit of the rows of one chunk.

    Raises:
        ConfigError: an option out of range, or a wrong number of values.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import Occlusion
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1, bias=False))  # the mean, as the score of class 1
        >>> _ = nn.init.constant_(net[1].weight, 1 / 16)
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[..., :2, :2] = 1
        >>> Occlusion(window=2, stride=2, fill="zero")(net, image, target=1).maps["image"]
        tensor([[[0.2500, 0.2500, 0.0000, 0.0000],
                 [0.2500, 0.2500, 0.0000, 0.0000],
                 [0.0000, 0.0000, 0.0000, 0.0000],
                 [0.0000, 0.0000, 0.0000, 0.0000]]])
    """

    method = "occlusion"

    def __init__(
        self,
        *,
        window: PositiveInt | Sequence[PositiveInt] = 16,
        stride: PositiveInt | Sequence[PositiveInt] | None = None,
        fill: Baseline = "mean",
        memory_budget: MemorySize = "1GiB",
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
        results: list[Images] = [{} for _ in targets]
        for name in subject.inputs:
            decreases, windows = self._hide_windows(subject, name, scores, chunk)
            for maps, target in zip(results, targets, strict=True):
                maps[name] = self._average_windows(subject, name, decreases, windows, target)
        return [Attribution(maps=maps) for maps in results]

    @torch.no_grad()
    def _hide_windows(
        self, subject: ExplainedModel, name: str, scores: Tensor, chunk: int
    ) -> tuple[Tensor, list[Window]]:
        """Return the decrease of each score, [B, windows, K], and the windows."""
        image = subject.inputs[name]
        fill = make_baseline(image, self.fill)
        windows = self._windows(image.shape[2:])
        differs = (image != fill).any(dim=1).cpu()
        pairs = [
            (sample, number)
            for sample, number in product(range(len(image)), range(len(windows)))
            if differs[sample][windows[number]].any()
        ]
        decreases = scores.new_zeros(len(image), len(windows), scores.shape[1])
        for first in range(0, len(pairs), chunk):
            part = pairs[first : first + chunk]
            rows = torch.tensor([sample for sample, _ in part], device=image.device)
            images = {other: value[rows] for other, value in subject.inputs.items()}
            for row, (sample, number) in enumerate(part):
                region = (slice(None), *windows[number])
                images[name][row][region] = fill[sample][region]
            hidden = subject.scores(images, rows=rows)
            columns = torch.tensor([number for _, number in part], device=image.device)
            decreases[rows, columns] = scores[rows] - hidden
        return decreases, windows

    def _average_windows(
        self, subject: ExplainedModel, name: str, decreases: Tensor, windows: list[Window], target: Tensor
    ) -> Tensor:
        """Return the mean decrease [B, *spatial] over the windows that cover each voxel."""
        image = subject.inputs[name]
        total, cover = torch.zeros_like(image[:, 0]), torch.zeros_like(image[0, 0])
        for number, window in enumerate(windows):
            decrease = subject.target_scores(decreases[:, number], target)
            total[(slice(None), *window)] += decrease.to(total).reshape(-1, *[1] * len(window))
            cover[window] += 1
        return total / cover.clamp_min(1)

    def _windows(self, shape: Sequence[int]) -> list[Window]:
        """List the windows; together they cover the image."""
        wanted = _repeat_per_axis("window", self.window, shape)
        sizes = [min(size, side) for size, side in zip(wanted, shape, strict=True)]
        halves = [max(size // 2, 1) for size in sizes]
        strides = halves if self.stride is None else _repeat_per_axis("stride", self.stride, shape)
        if any(stride > size for stride, size in zip(strides, sizes, strict=True)):
            raise ConfigError(
                f"stride {strides} is larger than the window {sizes}; voxels between windows would never be hidden"
            )
        axes = [
            [slice(start, min(start + size, side)) for start in range(0, max(side - size, 0) + stride, stride)]
            for side, size, stride in zip(shape, sizes, strides, strict=True)
        ]
        return [window for window in product(*axes) if all(part.start < part.stop for part in window)]


def _repeat_per_axis(name: str, option: int | Sequence[int], shape: Sequence[int]) -> list[int]:
    values = [option] * len(shape) if isinstance(option, int) else list(option)
    if len(values) != len(shape):
        raise ConfigError(f"{name}={option} has {len(values)} numbers; the image has {len(shape)} spatial axes")
    return values
