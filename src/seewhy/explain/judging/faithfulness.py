"""Deletion and insertion: how fast the target's probability falls and rises with the pixels a map calls important."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.frozen_module import keep_unchanged
from seewhy.explain.judging.perturbation import Fill, draw_noise_like, fill_image, make_generators
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps

__all__ = ["Faithfulness", "measure_faithfulness"]


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Areas under the curves of the target's probability, each in [0, 1], and what knows nothing reaches.

    Inserting by an order is deleting by its reverse, and the reverse of noise is noise: one level serves both.

    Attributes:
        deletion: [B], lower is better.
        insertion: [B], higher is better.
        random: [B] mean over orders drawn at random.
        blurred: [B] mean over orders of noise as smooth as the map, since smooth orders alone can look faithful.
        deletion_curve: [B, steps + 1] probability with 0, 1/steps, …, all of the pixels removed.
        insertion_curve: [B, steps + 1] probability with 0, 1/steps, …, all of the pixels given back.
        fill: what a removed pixel shows.
    """

    deletion: Tensor
    insertion: Tensor
    random: Tensor
    blurred: Tensor
    deletion_curve: Tensor
    insertion_curve: Tensor
    fill: str

    def gaps(self) -> dict[str, Tensor]:
        """How far beyond the two levels, [B] each; positive is better than knowing nothing."""
        return {
            "deletion_gap": self.random - self.deletion,
            "insertion_gap": self.insertion - self.random,
            "deletion_gap_blurred": self.blurred - self.deletion,
            "insertion_gap_blurred": self.insertion - self.blurred,
        }


def measure_faithfulness(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    steps: int = 10,
    fill: Fill = "blur",
    draws: int = 3,
    seed: int = 0,
    budget: MemoryBudget | None = None,
) -> Faithfulness:
    """Curves of Petsiuk 2018 (section 3.4) in any dimension; pixels of several inputs share one order.

    Pixels of equal evidence come in random order. Inputs that are constant over a sample (missing ones) come last in
    every order. ROAD (Rong 2022) is not offered: its imputation is defined for the neighbours of a plane.

    Args:
        module: what was explained.
        inputs: the batch.
        maps: what is judged.
        steps: steps of each curve.
        fill: what a removed pixel shows; results of different fills do not compare.
        draws: of random and of blurred orders.
        seed: of the draws, together with each sample's content.
        budget: bounds the memory of a forward; None is 1 GiB.

    Raises:
        ConfigError: fewer than one step or draw.
    """
    for name, value in (("steps", steps), ("draws", draws)):
        if value < 1:
            raise ConfigError(f"{name}={value}; expected at least 1")
    subject = ExplainedModel(module, inputs)
    curves = _Curves(subject, maps.target, fill, steps, budget or MemoryBudget("1GiB"))
    evidence = {name: one.to(curves.device) for name, one in maps.evidence().items()}
    drawing = make_generators(subject.inputs, seed=seed)
    with keep_unchanged(subject.module), torch.no_grad():
        ends, nothing = curves.ends(), torch.zeros_like(join_maps(evidence))
        own = curves.order(join_maps(evidence), drawing)
        deletion, insertion = curves.deletion(own, ends), curves.insertion(own, ends)
        random = [curves.deletion(curves.order(nothing, drawing), ends) for _ in range(draws)]
        noise = [
            join_maps({name: draw_noise_like(one, drawing) for name, one in evidence.items()}) for _ in range(draws)
        ]
        blurred = [curves.deletion(curves.order(one, drawing), ends) for one in noise]
    return Faithfulness(
        deletion=_area(deletion),
        insertion=_area(insertion),
        random=torch.stack([_area(one) for one in random]).mean(dim=0),
        blurred=torch.stack([_area(one) for one in blurred]).mean(dim=0),
        deletion_curve=deletion,
        insertion_curve=insertion,
        fill=fill,
    )


class _Curves:
    """Probabilities of a batch's targets with part of the pixels removed."""

    def __init__(self, subject: ExplainedModel, target: Tensor, fill: Fill, steps: int, budget: MemoryBudget) -> None:
        self.subject = subject
        self.steps = steps
        self.budget = budget
        first = next(iter(subject.inputs.values()))
        self.device = first.device
        self.target = target.to(self.device)
        self.removed = {name: fill_image(image, fill) for name, image in subject.inputs.items()}
        self.sizes = {name: image[0, 0].numel() for name, image in subject.inputs.items()}
        self.pixels = sum(self.sizes.values())
        constant = [
            (image.flatten(1).amax(1) == image.flatten(1).amin(1))[:, None].expand(-1, self.sizes[name])
            for name, image in subject.inputs.items()
        ]
        self.constant = torch.cat(constant, dim=1)

    def order(self, values: Tensor, drawing: Sequence[torch.Generator]) -> Tensor:
        """[B, P] place of each pixel in the order of falling values, 0 first."""
        shuffle = torch.stack([torch.randperm(self.pixels, generator=one) for one in drawing]).to(self.device)
        values = values.masked_fill(self.constant, float("-inf")).gather(1, shuffle)
        sequence = shuffle.gather(1, values.argsort(dim=1, descending=True, stable=True))
        place = torch.arange(self.pixels, device=self.device).expand_as(sequence)
        return torch.empty_like(sequence).scatter_(1, sequence, place)

    def ends(self) -> Tensor:
        """[B, 2] probabilities of the whole image and of the fill."""
        everything = torch.zeros(self.subject.batch, self.pixels, dtype=torch.long, device=self.device)
        return self._probabilities(everything, [0, self.steps])

    def deletion(self, order: Tensor, ends: Tensor) -> Tensor:
        """[B, steps + 1] probabilities while pixels are removed in order."""
        inner = self._probabilities(order, list(range(1, self.steps)))
        return torch.cat([ends[:, :1], inner, ends[:, 1:]], dim=1)

    def insertion(self, order: Tensor, ends: Tensor) -> Tensor:
        """[B, steps + 1] probabilities while pixels are given back in order."""
        return self.deletion(self.pixels - 1 - order, ends).flip(1)

    def _probabilities(self, order: Tensor, steps: list[int]) -> Tensor:
        """[B, len(steps)] probabilities with the first step/steps of the order removed."""
        counts = torch.tensor([round(self.pixels * step / self.steps) for step in steps], device=self.device)
        rows = torch.arange(self.subject.batch, device=self.device).repeat_interleave(len(steps))
        limits = counts.repeat(self.subject.batch)
        chunk = self.budget.forward_rows(self.subject)
        with self.budget.guarded():
            found = [
                self._chunk(order, rows[start : start + chunk], limits[start : start + chunk])
                for start in range(0, len(rows), chunk)
            ]
        return torch.cat(found).reshape(self.subject.batch, len(steps)) if found else order.new_zeros(len(order), 0)

    def _chunk(self, order: Tensor, rows: Tensor, limits: Tensor) -> Tensor:
        gone = (order[rows] < limits[:, None]).split(list(self.sizes.values()), dim=1)
        changed: Mapping[str, Tensor] = {
            name: torch.where(part.reshape(-1, 1, *image.shape[2:]), self.removed[name][rows], image[rows])
            for part, (name, image) in zip(gone, self.subject.inputs.items(), strict=True)
        }
        return self.subject.probabilities(self.subject.scores(changed, rows=rows), self.target[rows])


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dx=1.0 / (curve.shape[1] - 1), dim=1)
