"""Scores of a batch while pixels are removed, in chunks that fit the memory budget: the work of faithfulness tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.judging.perturbation import Fill, fill_image

__all__ = ["Output", "Removal", "number_regions", "rank_shuffled"]

Output: TypeAlias = Literal["probability", "score", "margin"]
"""What is measured of the target: its calibrated probability, its raw class score, or its probability minus the largest
of any other class."""


class Removal:
    """Removes pixels of a batch and measures the target. The pixels of all inputs share one order.

    Args:
        subject: module and batch.
        target: [B] classes, or [B, 2] contrasts.
        fill: value of removed pixels.
        budget: memory limit of a forward; None is 1 GiB.
        output: what is measured.

    Attributes:
        sizes: input → number of its pixels.
        pixels: P, number of pixels of all inputs.
        removed: input → [B, C, *spatial], everything removed.
        constant: [B, P] bool, pixels of inputs that are constant over a sample (missing inputs).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.judging.removal import Removal
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        >>> _ = nn.init.constant_(net[1].weight, 1)
        >>> subject = ExplainedModel(net, torch.ones(1, 1, 2, 2))
        >>> removal = Removal(subject, torch.tensor([1]), "zero", output="score")
        >>> removal.measure(torch.arange(4)[None], [(0, 0), (0, 1), (0, 3), (2, 3)])
        tensor([[4., 3., 1., 3.]])
    """

    def __init__(
        self,
        subject: ExplainedModel,
        target: Tensor,
        fill: Fill,
        *,
        budget: MemoryBudget | None = None,
        output: Output = "probability",
    ) -> None:
        self.subject, self.output = subject, output
        self.budget = budget or MemoryBudget("1GiB")
        self.device = next(iter(subject.inputs.values())).device
        self.target = target.to(self.device)
        self.removed = {name: fill_image(image, fill) for name, image in subject.inputs.items()}
        self.sizes = {name: image[0, 0].numel() for name, image in subject.inputs.items()}
        self.pixels = sum(self.sizes.values())
        constant = [
            (image.flatten(1).amax(1) == image.flatten(1).amin(1))[:, None].expand(-1, self.sizes[name])
            for name, image in subject.inputs.items()
        ]
        self.constant = torch.cat(constant, dim=1)

    @torch.no_grad()
    def measure(self, ranks: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
        """Measure the target with the pixels of some ranks removed, [B, len(spans)].

        Args:
            ranks: [B, P] rank of each pixel; several pixels may share one.
            spans: first rank that is removed and the one after the last; equal ones remove nothing.
        """
        bounds = torch.tensor(spans, device=self.device).reshape(-1, 2)
        rows = torch.arange(self.subject.batch, device=self.device).repeat_interleave(len(bounds))
        bounds = bounds.repeat(self.subject.batch, 1)
        chunk = self.budget.forward_rows(self.subject) if len(rows) else 1
        with self.budget.guarded():
            parts = [
                self._measure_rows(ranks, rows[start : start + chunk], bounds[start : start + chunk])
                for start in range(0, len(rows), chunk)
            ]
        return torch.cat(parts).reshape(self.subject.batch, -1) if parts else ranks.new_zeros(len(ranks), 0)

    def changes(self) -> Tensor:
        """Return how much each pixel changes when it is removed, summed over its channels, [B, P]."""
        parts = [(image - self.removed[name]).float().sum(dim=1) for name, image in self.subject.inputs.items()]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def _measure_rows(self, ranks: Tensor, rows: Tensor, bounds: Tensor) -> Tensor:
        chosen = ranks[rows]
        gone = ((chosen >= bounds[:, :1]) & (chosen < bounds[:, 1:])).split(list(self.sizes.values()), dim=1)
        changed: Mapping[str, Tensor] = {
            name: torch.where(part.reshape(-1, 1, *image.shape[2:]), self.removed[name][rows], image[rows])
            for part, (name, image) in zip(gone, self.subject.inputs.items(), strict=True)
        }
        scores = self.subject.scores(changed, rows=rows)
        if self.output == "margin":
            every = self.subject.class_probabilities(scores)
            own = self.target[rows, None]
            return every.gather(1, own)[:, 0] - every.scatter(1, own, -1).amax(dim=1)
        measure = self.subject.probabilities if self.output == "probability" else self.subject.target_scores
        return measure(scores, self.target[rows])


def number_regions(images: Mapping[str, Tensor], side: int) -> Tensor:
    """Number square (cubic) regions of all inputs, [P] int64, row by row and input after input.

    Regions that do not fit are cut off at both ends of an axis, as if the image were padded on both sides.

    Args:
        images: input → [B, C, *spatial].
        side: of the regions, in pixels.

    Example:
        >>> import torch
        >>> from seewhy.explain.judging.removal import number_regions
        >>> number_regions({"image": torch.zeros(1, 1, 1, 4)}, 3), number_regions({"image": torch.zeros(1, 1, 1, 5)}, 3)
        (tensor([0, 0, 1, 1]), tensor([0, 0, 0, 1, 1]))
    """
    parts, first = [], 0
    for image in images.values():
        number = torch.zeros(image.shape[2:], dtype=torch.long, device=image.device)
        for axis, size in enumerate(image.shape[2:]):
            before = (-size % side) // 2
            steps = (torch.arange(size, device=image.device) + before) // side
            number = number * -(-size // side) + steps.reshape(-1, *[1] * (image.ndim - 3 - axis))
        parts.append(number.flatten() + first)
        first = int(parts[-1][-1]) + 1
    return torch.cat(parts)


def rank_shuffled(values: Tensor, sources: Sequence[torch.Generator]) -> Tensor:
    """Rank each column by decreasing value, 0 first; equal values are in random order.

    Args:
        values: [B, n].
        sources: a generator on the CPU for each sample.

    Returns:
        [B, n] int64.

    Example:
        >>> import torch
        >>> from seewhy.explain.judging.removal import rank_shuffled
        >>> rank_shuffled(torch.tensor([[0.1, 0.9, 0.5]]), [torch.Generator()])
        tensor([[2, 0, 1]])
    """
    drawn = [torch.randperm(values.shape[1], generator=source) for source in sources]
    shuffle = torch.stack(drawn).to(values.device)
    order = shuffle.gather(1, values.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))
    ranks = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks)
