"""In-distribution faithfulness: a copy of the network that has seen masked images judges deletion and insertion."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.errors import ConfigError
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.frozen_module import keep_unchanged
from seewhy.explain.judging.perturbation import Fill, fill_image, smooth
from seewhy.probability import calibrated_probability

__all__ = ["TunedCopy", "draw_masks", "tune_with_masks"]

WIDEST = 1 / 16
"""Largest standard deviation of the noise that masks are made of, as a share of each side."""


@dataclass(frozen=True, kw_only=True)
class TunedCopy:
    """A copy of a network that was tuned with random masks.

    Attributes:
        module: the copy, in evaluation mode.
        before: mean total variation distance, in [0, 1], between the network's probabilities of whole images and of
            images with random masks, before the tuning.
        after: the same for the copy's probabilities of masked images.
    """

    module: nn.Module
    before: float
    after: float


def tune_with_masks(
    module: nn.Module,
    batches: Sequence[Inputs],
    *,
    steps: int = 100,
    rate: float = 1e-4,
    fill: Fill = "blur",
    seed: int = 0,
) -> TunedCopy:
    """Tune a copy of a network so that it predicts from a masked image what the network predicts from the whole one.

    Removing pixels makes images that the network has never seen, so that its score falls or rises for reasons that
    have nothing to do with the evidence. The copy has seen images with random parts removed, whatever the
    explanation (Zheng 2025, F-Fidelity, arXiv 2410.02970); curves by `measure_faithfulness(copy, …)` with the same fill
    are in its distribution. Here the copy learns the network's own probabilities, not labels, so that any images will
    do, and masks have every share of pixels, as the curves do; the paper tunes with labels and at most 10 % removed.
    Statistics of batch normalisation stay as they are.

    Args:
        module: the network, which is not changed.
        batches: inputs to tune on, in turn; other samples than the explained ones where there are any.
        steps: of the optimiser (AdamW).
        rate: learning rate.
        fill: value of removed pixels.
        seed: seed of the masks.

    Raises:
        ConfigError: no batch, or no step.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain.judging import tune_with_masks
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
        >>> tuned = tune_with_masks(net, [torch.randn(16, 1, 8, 8)], steps=50, rate=1e-2, fill="zero")
        >>> tuned.after < tuned.before
        True
    """
    if not batches or steps < 1:
        raise ConfigError(f"{len(batches)} batches, steps={steps}; expected at least one of each")
    subjects = [ExplainedModel(module, batch) for batch in batches]
    with keep_unchanged(subjects[0].module), torch.no_grad():
        wanted = [subject.class_probabilities(subject.scores(subject.inputs)) for subject in subjects]
    with torch.inference_mode(False):  # Lightning predicts in it, and its tensors can never be trained
        tuned = copy.deepcopy(subjects[0].module).eval()
    copies = [ExplainedModel(tuned, batch) for batch in batches]
    before = _measure_distance(copies, wanted, fill, seed + 1)
    with torch.inference_mode(False), torch.enable_grad():
        weights = [parameter.requires_grad_() for parameter in tuned.parameters() if parameter.is_floating_point()]
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0)
        for step in range(steps):
            number = step % len(copies)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            found = _predict_masked(copies[number], fill, generator)
            loss = -(wanted[number] * found.clamp_min(1e-6).log()).sum(dim=1).mean()
            if copies[number].about.multi_label:
                loss = functional.binary_cross_entropy(found.clamp(1e-6, 1 - 1e-6), wanted[number])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return TunedCopy(module=tuned, before=before, after=_measure_distance(copies, wanted, fill, seed + 1))


def draw_masks(images: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Draw masks of random shares, as white as noise or as smooth as a sixteenth of a side, [B, 1, *spatial] bool.

    Args:
        images: input → [B, C, *spatial]; all inputs of a sample have the same share.
        generator: on the CPU.
    """
    count = len(next(iter(images.values())))
    shares = torch.rand(count, generator=generator)
    widths = WIDEST * torch.rand(count, generator=generator) * (torch.rand(count, generator=generator) < 0.5)
    masks = {}
    for name, image in images.items():
        noise = torch.randn(count, *image.shape[2:], generator=generator)
        sides = torch.tensor(image.shape[2:], dtype=torch.float32)
        noise = smooth(noise, widths[:, None] * sides).flatten(1)
        limits = torch.stack([row.quantile(share) for row, share in zip(noise, shares, strict=True)])
        masks[name] = (noise < limits[:, None]).reshape(count, 1, *image.shape[2:]).to(image.device)
    return masks


def _predict_masked(subject: ExplainedModel, fill: Fill, generator: torch.Generator) -> Tensor:
    """Predict the probabilities of all classes from images with random parts removed, with a graph."""
    masks = draw_masks(subject.inputs, generator)
    changed = {name: torch.where(masks[name], fill_image(image, fill), image) for name, image in subject.inputs.items()}
    about = subject.about
    return calibrated_probability(subject.scores(changed), about.temperature, multi_label=about.multi_label)


@torch.no_grad()
def _measure_distance(copies: Sequence[ExplainedModel], wanted: Sequence[Tensor], fill: Fill, seed: int) -> float:
    """Measure the mean total variation distance to the wanted probabilities, with new masks."""
    generator = torch.Generator().manual_seed(seed)
    found = [_predict_masked(subject, fill, generator) for subject in copies]
    distances = [(one - target).abs().sum(dim=1) / 2 for one, target in zip(found, wanted, strict=True)]
    return float(torch.cat(distances).mean())
