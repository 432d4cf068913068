"""Base class of gradient methods, with gradients in chunks, sums along paths, and reproducible noise.

Random numbers depend only on a seed and a step, not on the device, the batch or earlier draws.
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
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.memory_saving_autograd import DeferringMode, MemorySavingMode, Stem
from seewhy.explain.targets import Target
from seewhy.option_types import MemorySize

__all__ = [
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
ExplainRows: TypeAlias = "Callable[[Tensor, Sequence[Tensor]], list[tuple[Images, Tensor]]]"


class GradientExplainer(Explainer):
    """An explainer that processes rows in chunks: all inputs in one pass, one forward for all targets.

    Args:
        memory_budget: memory limit of the rows of one chunk, e.g. "1GiB"; chunks never change the result.
    """

    def __init__(self, *, memory_budget: MemorySize = "1GiB") -> None:
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
        """Compute one attribution per target.

        Args:
            subject: module and batch.
            targets: [B] int64 each, or [B, 2] for contrasts.
            scores: [B, K] class scores of the batch, without a graph.
        """

    def _attribute_in_chunks(
        self, subject: ExplainedModel, targets: Sequence[Tensor], explain_rows: ExplainRows, *notes: str
    ) -> list[Attribution]:
        """Explain some samples at a time, as many as the memory budget allows.

        Args:
            subject: module and batch.
            targets: see `attributions`.
            explain_rows: takes the numbers of some samples and their targets, and returns maps and completeness errors
                for each target.
            notes: of every attribution.
        """
        every = torch.arange(subject.batch, device=targets[0].device)
        first = [target[:1] for target in targets[:1]]
        chunk = self.budget.rows(subject, self.method, lambda: explain_rows(every[:1], first))
        parts = [explain_rows(rows, [target[rows] for target in targets]) for rows in every.split(chunk)]
        return [
            Attribution(
                maps={name: torch.cat([part[position][0][name] for part in parts]) for name in subject.inputs},
                completeness=torch.cat([part[position][1] for part in parts]),
                notes=notes,
            )
            for position in range(len(targets))
        ]


def compute_gradients(
    subject: ExplainedModel, images: Mapping[str, Tensor], targets: Sequence[Tensor], rows: Tensor
) -> list[Images]:
    """Compute the gradients of each row's target score, for each target, with one forward for all targets.

    Args:
        subject: module and batch.
        images: input → [n, C, *spatial].
        targets: [n] int64 each.
        rows: [n] sample that each row was made from.

    Returns:
        For each target, input → gradient in the shape of the image; zero for an input that the module does not use.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.gradient.base import compute_gradients
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> model, rows = ExplainedModel(net, torch.rand(3, 1, 2, 2)), torch.arange(3)
        >>> gradients = compute_gradients(model, model.inputs, [torch.tensor([0, 1, 1])], rows)[0]["image"]
        >>> torch.equal(gradients[2].flatten(), net[1].weight[1])
        True
    """
    leaves = {name: image.detach().requires_grad_() for name, image in images.items()}
    with MemorySavingMode():
        scores = subject.scores(leaves, rows=rows)
    results = []
    for position, target in enumerate(targets):
        score = subject.target_scores(scores, target).sum()  # rows do not mix in evaluation mode
        last = position == len(targets) - 1
        gradients = (
            torch.autograd.grad(score, list(leaves.values()), retain_graph=not last, allow_unused=True)
            if score.requires_grad
            else [None] * len(leaves)
        )
        results.append(
            {
                name: torch.zeros_like(leaf) if gradient is None else gradient
                for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
            }
        )
    return results


def compute_sample_gradients(subject: ExplainedModel, targets: Sequence[Tensor], chunk: int) -> list[Images]:
    """Compute the gradients at the images of the batch, `chunk` samples at a time."""
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
    subject: ExplainedModel,
    targets: Sequence[Tensor],
    *,
    start: Images,
    end: Images,
    shares: Tensor,
    weights: Tensor,
    budget: MemoryBudget,
) -> list[Images]:
    """Integrate gradients along the straight way from one image to another, times the difference of the two.

    Args:
        subject: module and batch.
        targets: [B] int64 each.
        start: input → [B, C, *spatial].
        end: the same shapes.
        shares: [steps] shares of the way, in [0, 1].
        weights: [steps] of their gradients.
        budget: limits the rows at a time; a chunk may contain steps of several samples.

    Returns:
        For each target, input → [B, *spatial] float32, channels summed.
    """
    steps = len(shares)
    count = subject.batch * steps
    factors = {name: end[name] - image for name, image in start.items()}
    sums = [_GradientSums({name: image.shape for name, image in subject.inputs.items()}) for _ in targets]
    # Even chunks: a last chunk of a few rows would cost nearly as much as a full one.
    for pairs in torch.arange(count, device=targets[0].device).tensor_split(-(-count // budget.gradient_rows(subject))):
        samples, step = pairs // steps, (pairs % steps).cpu()
        leaves = {
            name: (start[name][samples] + _reshape_like(shares[step], factor) * factor[samples]).requires_grad_()
            for name, factor in factors.items()
        }
        # The sums at a stem, four bytes for each value and sample, may take an eighth of the budget.
        mode = DeferringMode(leaves, most=budget.size / 32 * len(pairs) / subject.batch)
        with mode:
            scores = subject.scores(leaves, rows=samples)
        for position, (total, target) in enumerate(zip(sums, targets, strict=True)):
            score = subject.target_scores(scores, target[samples]).sum()  # rows do not mix in evaluation mode
            last = position == len(targets) - 1
            if score.requires_grad:
                direct = torch.autograd.grad(score, list(leaves.values()), retain_graph=not last, allow_unused=True)
                total.add(dict(zip(leaves, direct, strict=True)), mode.stems, samples, weights[step])
    return [total.multiply(factors) for total in sums]


class _GradientSums:
    """Weighted sums of the gradients of each sample's points, at the images and at the stems.

    Args:
        shapes: input → shape of the batch of images.
    """

    def __init__(self, shapes: Mapping[str, torch.Size]) -> None:
        self.shapes = shapes
        self.direct: dict[str, Tensor] = {}
        self.stems: list[tuple[Stem, Tensor]] = []

    def add(self, direct: Mapping[str, Tensor | None], stems: Sequence[Stem], samples: Tensor, weights: Tensor) -> None:
        """Add the gradients of some points to the sums of their samples."""
        for name, gradient in direct.items():
            if gradient is not None:
                if name not in self.direct:
                    self.direct[name] = gradient.new_zeros(self.shapes[name], dtype=torch.float32)
                _add_rows(self.direct[name], gradient, samples, weights)
        for number, stem in enumerate(stems):
            gradient, stem.gradient = stem.gradient, None
            if number == len(self.stems):
                size = next(iter(self.shapes.values()))[0]
                self.stems.append((stem, stem.weight.new_zeros(size, *stem.shape[1:], dtype=torch.float32)))
            if gradient is not None:
                _add_rows(self.stems[number][1], gradient, samples, weights)

    def multiply(self, factors: Images) -> Images:
        """Pull the sums back to the images, multiply by the factors, and sum the channels."""
        sums = {name: self.direct.get(name, torch.zeros(())) for name in self.shapes}
        for stem, total in self.stems:
            pulled = stem.pull_back(total.to(stem.weight), self.shapes[stem.name])
            sums[stem.name] = pulled + sums[stem.name].to(pulled)
        return {name: sum_channels(total.to(factors[name]) * factors[name]) for name, total in sums.items()}


def _add_rows(total: Tensor, terms: Tensor, rows: Tensor, weights: Tensor) -> None:
    """Add weighted terms [n, ...] to rows of a total, row by row: a scattered addition has no fixed order on CUDA."""
    terms = terms.float() * _reshape_like(weights, terms).float()
    for row in rows.unique().tolist():
        total[row] += terms[rows == row].sum(dim=0)


def _reshape_like(values: Tensor, like: Tensor) -> Tensor:
    """Reshape [n] to be multiplied with [n, C, *spatial]."""
    return values.to(like).reshape(-1, *[1] * (like.ndim - 1))


def sum_channels(tensor: Tensor) -> Tensor:
    """Sum the channels with their signs, [B, C, *spatial] → [B, *spatial] float32."""
    return tensor.float().sum(dim=1)


def make_generator(seed: int, *numbers: int) -> torch.Generator:
    """Make a CPU generator for a combination of numbers; the global random state does not change."""
    state = np.random.SeedSequence((seed, *numbers)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def draw_step_noise(images: Mapping[str, Tensor], seed: int, steps: Sequence[int], share: float) -> dict[str, Tensor]:
    """Draw Gaussian noise for rows of images, the same for every sample of a step.

    The noise of a sample does not depend on its batch. It is drawn on the CPU, so it is the same on CUDA.

    Args:
        images: input → [n, C, *spatial], one row per entry of `steps`.
        seed: seed of the draws, not negative.
        steps: step of each row.
        share: standard deviation as a share of each image's range (Smilkov 2017, §3.3).

    Returns:
        Input → noise in the shape of the images.

    Example:
        >>> import torch
        >>> from seewhy.explain.gradient.base import draw_step_noise
        >>> image = torch.arange(8.0).reshape(1, 1, 2, 4)
        >>> alone = draw_step_noise({"image": image}, 0, [3], 0.1)["image"]
        >>> torch.equal(draw_step_noise({"image": image.repeat(2, 1, 1, 1)}, 0, [2, 3], 0.1)["image"][1:], alone)
        True
    """
    result = {}
    for number, (name, image) in enumerate(images.items()):
        drawn = {
            step: torch.randn(image.shape[1:], generator=make_generator(seed, step, number))
            for step in dict.fromkeys(steps)
        }
        axes = tuple(range(1, image.ndim))
        spread = share * (image.amax(dim=axes, keepdim=True) - image.amin(dim=axes, keepdim=True))
        result[name] = torch.stack([drawn[step] for step in steps]).to(image) * spread
    return result


def check_noise(share: float, samples: int, seed: int) -> None:
    """Check the options of noisy copies.

    Raises:
        ConfigError: an option out of range.
    """
    problems = []
    if share < 0:
        problems.append(f"noise={share}; expected a share of the image's range, at least 0")
    if samples < 1:
        problems.append(f"samples={samples}; expected at least 1")
    if seed < 0:
        problems.append(f"seed={seed}; expected at least 0")
    if problems:
        raise ConfigError("; ".join(problems))
