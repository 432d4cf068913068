"""In-distribution faithfulness: a copy of the network that has seen masked images judges deletion and insertion."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seewhy.errors import ConfigError
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import Fill, fill_image, smooth
from seewhy.probability import calibrated_probability, two_sided_scores
from seewhy.progress import track_slowly

__all__ = ["TunedCopy", "draw_masks", "tune_with_masks"]

WIDEST = 1 / 16
"""Largest standard deviation of the noise that masks are made of, as a share of each side."""
TOGETHER = 8
"""Images of a step, of which a quarter stays whole, so that the copy does not forget what it knows."""
WARM = 10
"""Steps in which the learning rate rises; a jump would destroy what was learned in training."""
LEAST_TUNED, LEAST_CHECKED = 8, 4
"""Fewest images to tune a copy on, and to check it on."""
NEARER = 0.05
"""Smallest fall of the distance on images held out, as a share of it; it must also be above two standard errors."""
MASKS = 8
"""Masks of each image that the copy is checked on."""


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
    rate: float = 1e-3,
    fill: Fill = "blur",
    seed: int = 0,
) -> TunedCopy:
    """Tune a copy of a network so that it predicts from a masked image what the network predicts from the whole one.

    Removing pixels makes images that the network has never seen, so that its score falls or rises for reasons that
    have nothing to do with the evidence. The copy has seen images with random parts removed, whatever the
    explanation (Zheng 2025, F-Fidelity, arXiv 2410.02970); curves by `measure_faithfulness(copy, …)` with the same fill
    are in its distribution. Here the copy learns the network's own probabilities, not labels, so that any images will
    do, and masks have every share of pixels, as the curves do; the paper tunes with labels and at most 10 % removed.
    A step has 8 images, 2 of them whole.
    Statistics of batch normalisation stay as they are.

    Args:
        module: the network, which is not changed.
        batches: inputs to tune on, in turn; other samples than the explained ones where there are any.
        held_out: inputs of other patients, to check the copy on; see `TunedCopy.problem`.
        steps: of the optimiser (AdamW).
        rate: highest learning rate; it rises in the first ten steps and then falls to 0 as a cosine.
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
    subjects = [ExplainedModel(module, batch) for batch in _join_equal(batches)]
    network = subjects[0].module
    checked = [ExplainedModel(module, batch) for batch in held_out] or subjects
    with keep_unchanged(network), torch.no_grad():
        wanted = [_predict(subject, subject.inputs) for subject in subjects]
        targets = [subject.class_probabilities(subject.scores(subject.inputs)) for subject in checked]
        before = _measure_distances(checked, targets, fill, seed + 1)
    with torch.inference_mode(False):  # Lightning predicts in it, and its tensors can never be trained
        tuned = copy.deepcopy(network).eval()
    _tune([_with_module(subject, tuned) for subject in subjects], wanted, steps, rate, fill, seed)
    after = _measure_distances([_with_module(subject, tuned) for subject in checked], targets, fill, seed + 1)
    return TunedCopy(
        module=tuned,
        before=float(before.mean()),
        after=float(after.mean()),
        tuned_on=sum(subject.batch for subject in subjects),
        checked_on=sum(subject.batch for subject in checked) if held_out else 0,
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


def _tune(
    copies: Sequence[ExplainedModel], wanted: Sequence[Tensor], steps: int, rate: float, fill: Fill, seed: int
) -> None:
    """Tune a copy towards the wanted probabilities of images with random parts removed.

    Args:
        copies: the copy with the images of each shape.
        wanted: [B, K] of each; not calibrated, since calibration of a small network can make them nearly 0 and 1.
        steps: of the optimiser.
        rate: highest learning rate; it rises over `WARM` steps and falls to 0 as a cosine.
        fill: value of removed pixels.
        seed: of images and masks.
    """
    with torch.inference_mode(False), torch.enable_grad():
        removed = [{name: fill_image(image, fill) for name, image in one.inputs.items()} for one in copies]
        sizes = torch.tensor([float(one.batch) for one in copies])
        weights = [one.requires_grad_() for one in copies[0].module.parameters() if one.is_floating_point()]
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0)
        for step in track_slowly(range(steps), "tuning a copy of the network with masks"):
            optimizer.param_groups[0]["lr"] = rate * min((step + 1) / WARM, 1) * _fall(step / steps)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            number = int(torch.multinomial(sizes, 1, generator=generator))
            subject = copies[number]
            rows = torch.randperm(subject.batch, generator=generator)[:TOGETHER]
            changed = _remove(subject, removed[number], rows, generator, whole=len(rows) // 4)
            scores = subject.scores(changed, rows=rows)
            loss = _compare(scores, wanted[number][rows], subject.about.multi_label)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _fall(share: float) -> float:
    """Fall from 1 to 0 as a cosine."""
    return (1 + math.cos(math.pi * share)) / 2


def _predict(subject: ExplainedModel, images: Mapping[str, Tensor]) -> Tensor:
    """Predict the probabilities of all classes without calibration, [B, K]."""
    return calibrated_probability(subject.scores(images), multi_label=subject.about.multi_label)


def _compare(scores: Tensor, wanted: Tensor, multi_label: bool) -> Tensor:
    """Compute the mean cross-entropy of scores and wanted probabilities."""
    if multi_label and scores.shape[1] > 1:
        return functional.binary_cross_entropy_with_logits(scores.float(), wanted)
    return functional.cross_entropy(two_sided_scores(scores.float()), wanted)


def _remove(
    subject: ExplainedModel, removed: Mapping[str, Tensor], rows: Tensor, generator: torch.Generator, *, whole: int
) -> dict[str, Tensor]:
    """Remove random parts of the images of some rows; the first of them stay whole."""
    images = {name: image[rows] for name, image in subject.inputs.items()}
    masks = draw_masks(images, generator)
    for mask in masks.values():
        mask[:whole] = False
    return {name: torch.where(masks[name], removed[name][rows], image) for name, image in images.items()}


def _join_equal(batches: Sequence[Inputs]) -> list[Inputs]:
    """Join the batches whose images have equal sizes."""
    groups: dict[object, list[dict[Any, Tensor]]] = {}
    for batch in batches:
        named: dict[Any, Tensor] = dict(batch) if isinstance(batch, Mapping) else dict(enumerate(_list(batch)))
        groups.setdefault(tuple((name, one.shape[1:]) for name, one in named.items()), []).append(named)
    joined: list[dict[Any, Tensor]] = [
        {name: torch.cat([part[name] for part in parts]) for name in parts[0]} for parts in groups.values()
    ]
    if isinstance(batches[0], Mapping):
        return [*joined]
    return [one[0] if isinstance(batches[0], Tensor) else tuple(one.values()) for one in joined]


def _list(batch: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [batch] if isinstance(batch, Tensor) else batch


def _with_module(subject: ExplainedModel, module: nn.Module) -> ExplainedModel:
    """Return another module with the same inputs."""
    other = copy.copy(subject)
    other.module = module
    return other


@torch.no_grad()
def _measure_distances(subjects: Sequence[ExplainedModel], wanted: Sequence[Tensor], fill: Fill, seed: int) -> Tensor:
    """Measure the total variation distance of each image to the wanted probabilities, mean over new masks, [N]."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for subject, target in zip(subjects, wanted, strict=True):
        removed = {name: fill_image(image, fill) for name, image in subject.inputs.items()}
        every = torch.arange(subject.batch)
        distances = []
        for _ in range(MASKS):
            scores = subject.scores(_remove(subject, removed, every, generator, whole=0))
            distances.append((subject.class_probabilities(scores) - target).abs().sum(dim=1) / 2)
        result.append(torch.stack(distances).mean(dim=0))
    return torch.cat(result)
