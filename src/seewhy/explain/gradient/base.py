"""Gradients of class scores by the inputs: the frame that the gradient methods share.

Random numbers that depend on a seed and a step alone: not on the device, the batch, or what was drawn before.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.base import Attribution, Explainer
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel, Target
from seewhy.explain.gradient.memory_saving_autograd import MemorySavingMode

__all__ = [
    "Draw",
    "GradientExplainer",
    "check_noise",
    "compute_gradients",
    "compute_sample_gradients",
    "draw_step_noise",
    "make_generator",
    "sum_along_path",
    "sum_channels",
]

Images: TypeAlias = "dict[str, Tensor]"
Draw: TypeAlias = "Callable[[Tensor, Tensor], tuple[Images, Images, Tensor]]"
"""(sample [n], step [n]) → points by input, what their gradients are multiplied by, and weights [n]."""


class GradientExplainer(Explainer):
    """An explainer by gradients at the inputs: all inputs in one pass, one forward for all targets.

    Args:
        memory_budget: what the rows of one chunk may take, e.g. "1GiB"; chunks never change the result.
    """

    def __init__(self, *, memory_budget: int | str = "1GiB") -> None:
        self.budget = MemoryBudget(memory_budget)

    def explain(
        self, subject: ExplainedModel, targets: Sequence[Target]
    ) -> tuple[Tensor, list[Tensor], list[Attribution]]:
        """See `Explainer.explain`."""
        with self.budget.guarded():
            with torch.no_grad():
                scores = subject.scores(subject.inputs)
            chosen = [subject.targets(target, scores) for target in targets]
            return scores, chosen, self.attributions(subject, chosen, scores)

    @abstractmethod
    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """What is found for each target.

        Args:
            subject: module and batch.
            targets: [B] int64 each.
            scores: [B, K] of the batch, without graph.
        """


def compute_gradients(
    subject: ExplainedModel, images: Mapping[str, Tensor], targets: Sequence[Tensor], rows: Tensor
) -> list[Images]:
    """Gradients of each row's target score, for each target; one forward for all of them.

    Args:
        subject: module and batch.
        images: input → [n, C, *spatial].
        targets: [n] int64 each.
        rows: [n] the sample each row was made of.

    Returns:
        For each target, input → gradient of the image's shape; zero for an input that the module did not look at.
    """
    leaves = {name: image.detach().requires_grad_() for name, image in images.items()}
    with MemorySavingMode():
        scores = subject.scores(leaves, rows=rows)
    found = []
    for position, target in enumerate(targets):
        score = subject.target_scores(scores, target).sum()  # rows do not mix in evaluation mode
        last = position == len(targets) - 1
        ones = (
            torch.autograd.grad(score, list(leaves.values()), retain_graph=not last, allow_unused=True)
            if score.requires_grad
            else [None] * len(leaves)
        )
        found.append(
            {
                name: torch.zeros_like(leaf) if one is None else one
                for (name, leaf), one in zip(leaves.items(), ones, strict=True)
            }
        )
    return found


def compute_sample_gradients(subject: ExplainedModel, targets: Sequence[Tensor], chunk: int) -> list[Images]:
    """Gradients at the batch's own images, `chunk` samples at a time."""
    device = targets[0].device
    parts = []
    for rows in torch.arange(subject.batch, device=device).split(chunk):
        images = {name: image[rows] for name, image in subject.inputs.items()}
        parts.append(compute_gradients(subject, images, [target[rows] for target in targets], rows))
    return [
        {name: torch.cat([part[position][name] for part in parts]) for name in subject.inputs}
        for position in range(len(targets))
    ]


def sum_along_path(
    subject: ExplainedModel, targets: Sequence[Tensor], steps: int, chunk: int, draw: Draw
) -> list[Images]:
    """Weighted sums over steps of gradients at drawn points, times what the points say, for each sample.

    Args:
        subject: module and batch.
        targets: [B] int64 each.
        steps: how many points each sample has.
        chunk: rows at a time; a chunk may hold steps of several samples.
        draw: the points of (sample, step) pairs, which must not depend on the other pairs.

    Returns:
        For each target, input → [B, *spatial], channels summed.
    """
    sums = [
        {name: torch.zeros_like(image[:, 0], dtype=torch.float32) for name, image in subject.inputs.items()}
        for _ in targets
    ]
    count = subject.batch * steps
    # Even parts: a last chunk of a few rows would cost nearly as much as a full one.
    for pairs in torch.arange(count, device=targets[0].device).tensor_split(-(-count // chunk)):
        samples, step = pairs // steps, pairs % steps
        points, factors, weights = draw(samples, step)
        found = compute_gradients(subject, points, [target[samples] for target in targets], samples)
        for total, one in zip(sums, found, strict=True):
            for name, gradient in one.items():
                terms = sum_channels(gradient * factors[name])
                terms = terms * weights.to(terms).reshape(-1, *[1] * (terms.ndim - 1))
                # Sample by sample: a scattered addition has no fixed order on CUDA.
                for sample in samples.unique().tolist():
                    total[name][sample] += terms[samples == sample].sum(dim=0)
    return sums


def sum_channels(tensor: Tensor) -> Tensor:
    """[B, C, *spatial] → [B, *spatial] float32; signs are kept, so that sums stay what they are."""
    return tensor.float().sum(dim=1)


def make_generator(seed: int, *numbers: int) -> torch.Generator:
    """A generator of its own for each combination of numbers; the global one is left alone."""
    state = np.random.SeedSequence((seed, *numbers)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def draw_step_noise(images: Mapping[str, Tensor], seed: int, steps: Sequence[int], share: float) -> dict[str, Tensor]:
    """Gaussian noise for rows of images, the same for every sample of a step.

    A sample's noise so does not depend on the batch it is in. It is drawn on the CPU, so that CUDA gets the same.

    Args:
        images: input → [n, C, *spatial], one row per entry of `steps`.
        seed: of the draws, not negative.
        steps: the step of each row.
        share: standard deviation as a share of each image's range (Smilkov 2017, §3.3).

    Returns:
        Input → noise of the images' shape.
    """
    found = {}
    for number, (name, image) in enumerate(images.items()):
        drawn = {
            step: torch.randn(image.shape[1:], generator=make_generator(seed, step, number))
            for step in dict.fromkeys(steps)
        }
        axes = tuple(range(1, image.ndim))
        spread = share * (image.amax(dim=axes, keepdim=True) - image.amin(dim=axes, keepdim=True))
        found[name] = torch.stack([drawn[step] for step in steps]).to(image) * spread
    return found


def check_noise(share: float, samples: int, seed: int) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ConfigError: an option out of its range.
    """
    problems = []
    if share < 0:
        problems.append(f"noise={share}; expected a share of the image's range, at least 0")
    if samples < 1:
        problems.append(f"samples={samples}; expected at least 1")
    if seed < 0:
        problems.append(f"seed={seed}; expected a number that is not negative")
    if problems:
        raise ConfigError("; ".join(problems))
