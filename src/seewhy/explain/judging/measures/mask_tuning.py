"""In-distribution faithfulness: a copy of the network that has seen masked images judges deletion and insertion."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.errors import ConfigError
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import Fill, fill_image, smooth
from seewhy.probability import calibrated_probability

__all__ = ["TunedCopy", "draw_masks", "tune_with_masks"]

WIDEST = 1 / 16
"""Largest standard deviation of the noise that masks are made of, as a share of each side."""
LEAST_TUNED, LEAST_CHECKED = 8, 4
"""Fewest images to tune a copy on, and to check it on."""
NEARER = 0.05
"""Smallest fall of the distance on images held out, as a share of it; it must also be above two standard errors."""
MASKS = 4
"""Masks of each image held out."""


@dataclass(frozen=True, kw_only=True)
class TunedCopy:
    """A copy of a network that was tuned with random masks.

    Attributes:
        module: the copy, in evaluation mode.
        before: mean total variation distance, in [0, 1], between the network's probabilities of whole images and of
            images with random masks, before the tuning; of the images held out, or, without any, of those tuned on.
        after: the same for the copy's probabilities of masked images.
        tuned_on: number of images that it was tuned on.
        checked_on: number of images held out; 0 is never checked.
        error: standard error of `before` - `after` over the images.
    """

    module: nn.Module
    before: float
    after: float
    tuned_on: int
    checked_on: int
    error: float

    @property
    def problem(self) -> str:
        """Why scores by the copy are doubtful, in one sentence; empty if it passed its check.

        A copy of few images recognises them by what is left of them: its distance falls on these images and not on
        others.
        """
        if self.tuned_on < LEAST_TUNED or self.checked_on < LEAST_CHECKED:
            return (
                f"it has {self.tuned_on} images to be tuned on and {self.checked_on} held out to check it; expected at "
                f"least {LEAST_TUNED} and {LEAST_CHECKED}"
            )
        if not self.before - self.after > max(2 * self.error, NEARER * self.before):
            return (
                f"on {self.checked_on} masked images held out it is not clearly nearer to the network's predictions of "
                f"whole images than the network itself (distance {self.after:.3f}, before {self.before:.3f})"
            )
        return ""


def tune_with_masks(
    module: nn.Module,
    batches: Sequence[Inputs],
    *,
    held_out: Sequence[Inputs] = (),
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
        held_out: inputs of other patients, to check the copy on; see `TunedCopy.problem`.
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
        >>> images = torch.randn(24, 1, 8, 8)
        >>> tuned = tune_with_masks(net, [images[:16]], held_out=[images[16:]], steps=50, rate=1e-2, fill="zero")
        >>> tuned.tuned_on, tuned.checked_on
        (16, 8)
        >>> "not clearly nearer" in tuned.problem  # noise has nothing in common: it learned these images alone
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
    checked = [ExplainedModel(module, batch) for batch in held_out]
    with keep_unchanged(subjects[0].module), torch.no_grad():
        targets = [one.class_probabilities(one.scores(one.inputs)) for one in checked] or wanted
    checked = [ExplainedModel(tuned, batch) for batch in held_out] or copies
    before = _measure_distances(checked, targets, fill, seed + 1)
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
    after = _measure_distances(checked, targets, fill, seed + 1)
    return TunedCopy(
        module=tuned,
        before=float(before.mean()),
        after=float(after.mean()),
        tuned_on=sum(copy.batch for copy in copies),
        checked_on=sum(copy.batch for copy in checked) if held_out else 0,
        error=float((before - after).std() / len(before) ** 0.5) if len(before) > 1 else float("inf"),
    )


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
def _measure_distances(copies: Sequence[ExplainedModel], wanted: Sequence[Tensor], fill: Fill, seed: int) -> Tensor:
    """Measure the total variation distance of each image to the wanted probabilities, mean over new masks, [N]."""
    generator = torch.Generator().manual_seed(seed)
    distances = [
        torch.stack([(_predict_masked(one, fill, generator) - target).abs().sum(dim=1) / 2 for _ in range(MASKS)])
        for one, target in zip(copies, wanted, strict=True)
    ]
    return torch.cat([one.mean(dim=0) for one in distances])
