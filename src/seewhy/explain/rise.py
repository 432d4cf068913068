"""RISE: mean score of the random masks that leave a pixel visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, make_generator
from seewhy.explain.grid import enlarge
from seewhy.option_types import MemorySize, NonNegativeInt, PositiveInt

__all__ = ["RISE", "draw_mask"]


class RISE(GradientExplainer):
    """Mean target probability with a pixel visible minus that of all masks (Petsiuk 2018, equation 6).

    A mask is a coarse random grid, enlarged and shifted by a part of a cell. The subtracted mean is the same for all
    pixels; without it every pixel would have evidence. All inputs are masked at once, each by its own mask; the masks
    are the same for every sample, so that a map does not depend on the batch. It needs no gradient and no layer.

    Args:
        masks: number of masks, a forward of each sample each. The noise of a map falls with its root.
        cells: cells of the grid along each axis.
        keep: probability that a cell is visible.
        fill: value of hidden pixels.
        seed: seed of the masks.
        memory_budget: memory limit of the rows of one chunk.

    Raises:
        ConfigError: an option out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import RISE
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
        >>> _ = nn.init.zeros_(net[1].weight)
        >>> net[1].weight.data[0, :16] = 1  # the first row of pixels
        >>> maps = RISE(masks=100, cells=4, fill="zero")(net, torch.ones(1, 1, 16, 16), target=1).maps["image"]
        >>> bool(maps[0, 0].mean() > 2 * maps[0, 4:].amax())
        True
    """

    method = "rise"

    def __init__(
        self,
        *,
        masks: PositiveInt = 500,
        cells: PositiveInt = 7,
        keep: float = 0.5,
        fill: Baseline = "minimum",
        seed: NonNegativeInt = 0,
        memory_budget: MemorySize = "1GiB",
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        if masks < 1 or cells < 1 or not 0 < keep < 1:
            raise ConfigError(f"rise: masks={masks}, cells={cells}, keep={keep}; expected at least 1, and 0 < keep < 1")
        self.masks, self.cells, self.keep, self.fill = masks, cells, keep, check_baseline(fill)
        self.seed: int = seed
        self.baseline = describe_baseline(fill)

    @torch.no_grad()
    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        fills = {name: make_baseline(image, self.fill) for name, image in subject.inputs.items()}
        chunk = max(self.budget.forward_rows(subject) // subject.batch, 1)
        sums = [{name: torch.zeros_like(image[:, 0]) for name, image in subject.inputs.items()} for _ in targets]
        visible = {name: torch.zeros_like(image[0, 0]) for name, image in subject.inputs.items()}
        totals = [torch.zeros(subject.batch, device=scores.device) for _ in targets]
        for first in range(0, self.masks, chunk):
            steps = range(first, min(first + chunk, self.masks))
            drawn = self._draw(subject.inputs, steps)
            probabilities = self._measure(subject, fills, drawn, targets)
            for name, mask in drawn.items():
                visible[name] += mask.sum(dim=0)
            for total, maps, values in zip(totals, sums, probabilities, strict=True):
                total += values.sum(dim=1)
                for name, mask in drawn.items():
                    maps[name] += torch.einsum("bm,m...->b...", values.to(mask), mask)
        return [
            Attribution(
                maps={
                    name: one / visible[name].clamp_min(1e-6) - _like(total / self.masks, one)
                    for name, one in maps.items()
                }
            )
            for maps, total in zip(sums, totals, strict=True)
        ]

    def _draw(self, images: Mapping[str, Tensor], steps: Sequence[int]) -> dict[str, Tensor]:
        """Draw the masks of some steps, [steps, *spatial] by input."""
        return {
            name: torch.stack(
                [
                    draw_mask(image.shape[2:], self.cells, self.keep, make_generator(self.seed, step, number))
                    for step in steps
                ]
            ).to(image)
            for number, (name, image) in enumerate(images.items())
        }

    def _measure(
        self,
        subject: ExplainedModel,
        fills: Mapping[str, Tensor],
        drawn: Mapping[str, Tensor],
        targets: Sequence[Tensor],
    ) -> list[Tensor]:
        """Compute the probabilities [B, masks] of each target under the masks."""
        count = len(next(iter(drawn.values())))
        rows = torch.arange(subject.batch, device=targets[0].device).repeat_interleave(count)
        images = {}
        for name, image in subject.inputs.items():
            mask = drawn[name].repeat(subject.batch, *[1] * (image.ndim - 2))[:, None]
            images[name] = image[rows] * mask + fills[name][rows] * (1 - mask)
        scores = subject.scores(images, rows=rows)
        return [subject.probabilities(scores, target[rows]).reshape(-1, count) for target in targets]


def draw_mask(shape: Sequence[int], cells: int, keep: float, generator: torch.Generator) -> Tensor:
    """Draw a smooth random mask [*shape] in [0, 1].

    Args:
        shape: of the image.
        cells: cells of the grid along each axis, at most as many as pixels.
        keep: probability that a cell is visible.
        generator: on the CPU.
    """
    counts = [min(cells, size) for size in shape]
    sizes = [-(-size // count) for size, count in zip(shape, counts, strict=True)]
    grid = (torch.rand([count + 1 for count in counts], generator=generator) < keep).float()
    whole = enlarge(grid[None], [(count + 1) * size for count, size in zip(counts, sizes, strict=True)])[0]
    for axis, (size, side) in enumerate(zip(sizes, shape, strict=True)):
        start = int(torch.randint(0, size, (1,), generator=generator))
        whole = whole.narrow(axis, start, side)
    return whole


def _like(values: Tensor, maps: Tensor) -> Tensor:
    return values.to(maps).reshape(-1, *[1] * (maps.ndim - 1))
