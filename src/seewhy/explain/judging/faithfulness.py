"""Deletion and insertion curves: the target's probability while pixels are removed or restored by importance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import Fill, draw_noise_like, make_generators
from seewhy.explain.judging.removal import Removal, rank_shuffled
from seewhy.explain.judging.shared_work import SharedWork
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps

__all__ = ["Faithfulness", "measure_faithfulness"]


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Areas under the curves of the target's probability, each in [0, 1], and the areas of uninformed orders.

    Insertion in some order equals deletion in the reverse order, and reversed noise is noise: `random` and `blurred`
    are references for both.

    Attributes:
        deletion: [B], lower is better.
        insertion: [B], higher is better.
        random: [B] mean over random orders.
        blurred: [B] mean over orders of noise as smooth as the map, since smoothness alone can look faithful.
        deletion_curve: [B, steps + 1] probability with 0, 1/steps, …, all of the pixels removed.
        insertion_curve: [B, steps + 1] probability with 0, 1/steps, …, all of the pixels restored.
        fill: value of removed pixels.
    """

    deletion: Tensor
    insertion: Tensor
    random: Tensor
    blurred: Tensor
    deletion_curve: Tensor
    insertion_curve: Tensor
    fill: str

    def gaps(self) -> dict[str, Tensor]:
        """Compute the differences to the two references, [B] each; positive is better than an uninformed order."""
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
    shared: SharedWork | None = None,
) -> Faithfulness:
    """Measure deletion and insertion curves (Petsiuk 2018, section 3.4) in 2D or 3D.

    The pixels of all inputs share one order. Pixels of equal evidence are in random order. Inputs that are constant
    over a sample (missing inputs) come last. ROAD (Rong 2022) is not offered: its imputation is defined for the
    neighbours in a plane.

    Args:
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        steps: steps of each curve.
        fill: value of removed pixels; results of different fills cannot be compared.
        draws: number of random orders and of blurred orders.
        seed: seed of the draws, together with the content of each sample.
        budget: memory limit of a forward; None is 1 GiB.
        shared: keeps the curves of random orders, which do not depend on the maps, for other methods on the same batch.

    Raises:
        ConfigError: fewer than one step or draw.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient, measure_faithfulness
        >>> _ = torch.manual_seed(0)
        >>> net, image = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.rand(4, 1, 8, 8)
        >>> maps = InputXGradient()(net, image, target=1)
        >>> result = measure_faithfulness(net, image, maps, fill="zero")
        >>> result.deletion_curve.shape, bool((result.gaps()["deletion_gap"] > 0).all())
        (torch.Size([4, 11]), True)
    """
    for name, value in (("steps", steps), ("draws", draws)):
        if value < 1:
            raise ConfigError(f"{name}={value}; expected at least 1")
    subject = ExplainedModel(module, inputs)
    curves = _Curves(subject, maps.explained, fill, steps, budget or MemoryBudget("1GiB"))
    evidence = {name: values.to(curves.device) for name, values in maps.evidence().items()}
    sources = make_generators(subject.inputs, seed=seed)
    with keep_unchanged(subject.module), torch.no_grad():
        order = curves.order(join_maps(evidence), sources)
        key = ("random orders", fill, steps, draws, seed, str(maps.explained.tolist()))
        work = (shared or SharedWork()).of(subject.module, subject.everything)
        ends, random, states = work.get(key, lambda: _try_random_orders(curves, sources, draws))
        for source, state in zip(sources, states, strict=True):
            source.set_state(state)
        deletion, insertion = curves.deletion(order, ends), curves.insertion(order, ends)
        noise = [
            join_maps({name: draw_noise_like(one, sources) for name, one in evidence.items()}) for _ in range(draws)
        ]
        blurred = [curves.deletion(curves.order(one, sources), ends) for one in noise]
    return Faithfulness(
        deletion=_integrate(deletion),
        insertion=_integrate(insertion),
        random=torch.stack([_integrate(one) for one in random]).mean(dim=0),
        blurred=torch.stack([_integrate(one) for one in blurred]).mean(dim=0),
        deletion_curve=deletion,
        insertion_curve=insertion,
        fill=fill,
    )


def _try_random_orders(
    curves: _Curves, sources: Sequence[torch.Generator], draws: int
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the ends of all curves, the curves of random orders, and the generators' states after the draws."""
    ends = curves.ends()
    constant = torch.zeros(curves.batch, curves.pixels, device=curves.device)
    random = [curves.deletion(curves.order(constant, sources), ends) for _ in range(draws)]
    return ends, random, [source.get_state() for source in sources]


class _Curves:
    """Probabilities of a batch's targets while part of the pixels is removed."""

    def __init__(self, subject: ExplainedModel, target: Tensor, fill: Fill, steps: int, budget: MemoryBudget) -> None:
        self.removal = Removal(subject, target, fill, budget=budget)
        self.steps, self.pixels, self.device = steps, self.removal.pixels, self.removal.device
        self.batch = subject.batch

    def order(self, values: Tensor, sources: Sequence[torch.Generator]) -> Tensor:
        """Return the rank [B, P] of each pixel by decreasing value, 0 first."""
        return rank_shuffled(values.masked_fill(self.removal.constant, float("-inf")), sources)

    def ends(self) -> Tensor:
        """Return the probabilities [B, 2] of the whole image and of the fill."""
        everything = torch.zeros(self.batch, self.pixels, dtype=torch.long, device=self.device)
        return self._probabilities(everything, [0, self.steps])

    def deletion(self, order: Tensor, ends: Tensor) -> Tensor:
        """Return the probabilities [B, steps + 1] while pixels are removed in order."""
        inner = self._probabilities(order, list(range(1, self.steps)))
        return torch.cat([ends[:, :1], inner, ends[:, 1:]], dim=1)

    def insertion(self, order: Tensor, ends: Tensor) -> Tensor:
        """Return the probabilities [B, steps + 1] while pixels are restored in order."""
        return self.deletion(self.pixels - 1 - order, ends).flip(1)

    def _probabilities(self, order: Tensor, steps: list[int]) -> Tensor:
        """Compute the probabilities [B, len(steps)] with the first step/steps of the order removed."""
        return self.removal.measure(order, [(0, round(self.pixels * step / self.steps)) for step in steps])


def _integrate(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dx=1.0 / (curve.shape[1] - 1), dim=1)
