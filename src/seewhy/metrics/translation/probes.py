"""Two classifiers that tell two sites apart: a small network on pictures, a logistic regression on features."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Fitted", "LogisticProbe", "NetworkProbe", "Probe"]


PERIOD = 10
"""Steps after which a network's training may end."""


class Fitted(NamedTuple):
    """A trained probe.

    Attributes:
        scores: [N, …] samples → [N] float64; above 0 it says the second site.
        converged: whether training ended because the loss had become small, not because its steps were used up.
    """

    scores: Scorer
    converged: bool


class Scorer(Protocol):
    """Scores samples."""

    def __call__(self, samples: Tensor) -> Tensor:
        """See `Fitted`."""


class Probe(Protocol):
    """A classifier of two sites; both count alike, however many samples each has."""

    name: str

    def fit(self, samples: Tensor, second: Tensor, *, seed: int) -> Fitted:
        """Train from scratch.

        Args:
            samples: [N, …] of both sites.
            second: [N] bool, whether a sample is of the second.
            seed: of everything random.
        """


class NetworkProbe:
    """Three convolutions, the mean over the plane and a linear layer, trained with Adam on balanced batches.

    Nothing is normalised within a sample, since brightness and contrast are what sites differ by.

    Args:
        steps: most training steps.
        width: channels of the first convolution; the others have two and four times as many.
        batch: samples per step.
        rate: learning rate.
        enough: loss, averaged over 10 steps, at which training ends.
    """

    name = "network"

    def __init__(
        self, *, steps: int = 300, width: int = 16, batch: int = 16, rate: float = 1e-2, enough: float = 0.05
    ) -> None:
        self.steps, self.width, self.batch, self.rate, self.enough = steps, width, batch, rate, enough

    def fit(self, samples: Tensor, second: Tensor, *, seed: int) -> Fitted:
        """See `Probe`; samples are [N, C, side, side]."""
        # Weights are drawn on the CPU, so that any device starts alike and nobody else's draws change.
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            net = self._net(samples.shape[1]).to(samples.device).to(memory_format=torch.channels_last)
            samples = samples.contiguous(memory_format=torch.channels_last)  # several times faster on a CPU
            return Fitted(_scorer(net), self._train(net, samples, second))

    def _train(self, net: nn.Module, samples: Tensor, second: Tensor) -> bool:
        optimizer = torch.optim.Adam(net.parameters(), lr=self.rate, weight_decay=1e-4, fused=True)
        sides = [torch.nonzero(second.cpu() == side).flatten() for side in (False, True)]
        recent = torch.zeros((), device=samples.device)
        for step in range(1, self.steps + 1):
            drawn = torch.cat([side[torch.randint(len(side), (self.batch // 2,))] for side in sides])
            drawn = drawn.to(samples.device)
            loss = F.binary_cross_entropy_with_logits(net(samples[drawn])[:, 0], second[drawn].float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recent += loss.detach()
            if step % PERIOD == 0:
                if float(recent) / PERIOD < self.enough:
                    return True
                recent.zero_()
        return False

    def _net(self, channels: int) -> nn.Sequential:
        widths = [channels, self.width, 2 * self.width, 4 * self.width]
        layers: list[nn.Module] = []
        for first, last in pairwise(widths):
            layers += [nn.Conv2d(first, last, 3, stride=2, padding=1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 1))


class LogisticProbe:
    """Logistic regression on standardised features, as scikit-learn fits it with `class_weight="balanced"`.

    Args:
        strength: inverse of the penalty on squared weights (scikit-learn's C).
    """

    name = "logistic"

    def __init__(self, *, strength: float = 1.0) -> None:
        self.strength = strength

    def fit(self, samples: Tensor, second: Tensor, *, seed: int) -> Fitted:
        """See `Probe`; samples are [N, D]; nothing is random, so the seed does not matter."""
        values = samples.double()
        mean, spread = values.mean(dim=0), values.std(dim=0, correction=0)
        spread = torch.where(spread > 1e-12, spread, 1.0)
        count = len(values)
        weight = torch.where(second, count / (2 * second.sum()), count / (2 * (~second).sum())).double()
        standard, truth = (values - mean) / spread, second.double()
        slopes = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device, requires_grad=True)
        offset = torch.zeros((), dtype=torch.float64, device=values.device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [slopes, offset], max_iter=200, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = standard @ slopes + offset
            loss = F.binary_cross_entropy_with_logits(logits, truth, weight=weight, reduction="sum")
            loss = self.strength * loss + slopes.square().sum() / 2
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        found, shift = slopes.detach(), offset.detach()
        return Fitted(lambda new: ((new.double() - mean) / spread) @ found + shift, True)


def _scorer(net: nn.Module) -> Scorer:
    def scores(samples: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = net(samples)[:, 0]
        return found.double()

    return scores
