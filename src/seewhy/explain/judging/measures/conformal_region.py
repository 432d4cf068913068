"""Conformal region: the smallest share of the pixels, by a map, that keeps the prediction of new patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.budget import MemoryBudget
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import Fill, make_generators
from seewhy.explain.judging.removal import Removal, rank_shuffled
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps
from seewhy.explain.targets import predict_classes

__all__ = [
    "CheckedRegion",
    "ConformalRegion",
    "calibrate_region",
    "check_region",
    "count_needed_patients",
    "measure_sufficient_share",
]


@dataclass(frozen=True, kw_only=True)
class ConformalRegion:
    """A share of the pixels that keeps the prediction of a new patient with a known probability.

    Attributes:
        share: share of the pixels of all inputs, those with the most evidence; 1 is the whole image.
        coverage: 1 − α, the least probability that they keep the prediction.
        patients: number of patients it was calibrated on.
    """

    share: float
    coverage: float
    patients: int

    def select(self, maps: Maps) -> dict[str, Tensor]:
        """Return the region of each input, [B, *spatial] bool; pixels of equal evidence are all part of it.

        Args:
            maps: of the method that the region was calibrated for.
        """
        evidence = maps.evidence()
        values = join_maps(evidence)
        count = max(math.ceil(self.share * values.shape[1] - 1e-9), 1)
        limits = values.topk(count, dim=1).values[:, -1]
        return {name: one >= limits.reshape(-1, *[1] * (one.ndim - 1)) for name, one in evidence.items()}


@dataclass(frozen=True, kw_only=True)
class CheckedRegion:
    """Regions of a batch, and whether each keeps the prediction.

    Attributes:
        masks: input → [B, *spatial] bool.
        size: [B] float64, share of the pixels of all inputs; above the calibrated share where evidence is equal.
        kept: [B] bool, whether the predicted class stays when all other pixels are filled.
        empty: [B] bool, whether it stays when all pixels are filled; such a sample says nothing about a region.
    """

    masks: dict[str, Tensor]
    size: Tensor
    kept: Tensor
    empty: Tensor


def count_needed_patients(alpha: float) -> int:
    """Count the fewest calibration patients with whom a region smaller than the whole image can be promised.

    Args:
        alpha: see `calibrate_region`.

    Example:
        >>> from seewhy.explain.judging import count_needed_patients
        >>> count_needed_patients(0.1), count_needed_patients(0.25), count_needed_patients(0.5)
        (9, 3, 1)
    """
    return max(math.ceil(1 / alpha - 1 - 1e-9), 1)


def check_region(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    region: ConformalRegion,
    *,
    fill: Fill = "blur",
    budget: MemoryBudget | None = None,
) -> CheckedRegion:
    """Select the regions of a batch, fill all other pixels, and compare the predicted class with that of the images.

    Args:
        module: the explained module.
        inputs: the batch.
        maps: of the batch, by the method that the region was calibrated for.
        region: calibrated with the same fill.
        fill: value of all other pixels.
        budget: memory limit of a forward; None is 1 GiB.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient
        >>> from seewhy.explain.judging import ConformalRegion, check_region
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(100, 1))
        >>> _ = nn.init.zeros_(net[1].weight), nn.init.constant_(net[1].bias, -0.5)
        >>> net[1].weight.data[0, 7] = 1  # one pixel decides
        >>> image = torch.rand(1, 1, 10, 10) + 1
        >>> maps = InputXGradient()(net, image, target=1)
        >>> found = check_region(net, image, maps, ConformalRegion(share=0.01, coverage=0.9, patients=9), fill="zero")
        >>> found.size, found.kept
        (tensor([0.0100], dtype=torch.float64), tensor([True]))
    """
    subject = ExplainedModel(module, inputs)
    target = predict_classes(maps.scores).to(next(iter(subject.inputs.values())).device)
    removal = Removal(subject, target, fill, budget=budget, output="margin")
    masks = region.select(maps)
    shown = join_maps({name: masks[name] for name in removal.sizes}).to(removal.device).bool()
    with keep_unchanged(subject.module):
        kept, empty = (removal.measure((~shown).long(), [(1, 2), (0, 2)]) > 0).cpu().unbind(dim=1)
    return CheckedRegion(masks=masks, size=shown.double().mean(dim=1).cpu(), kept=kept, empty=empty)


def calibrate_region(shares: Sequence[float], patients: Sequence[str], *, alpha: float = 0.1) -> ConformalRegion:
    """Calibrate the region of one method on validation patients (split conformal prediction: Vovk 2005).

    The region of a new patient keeps the prediction with probability at least 1 − α, over the draw of the calibration
    patients and the new one together, if all are drawn alike. Each patient counts once, with its largest share, since
    samples of a patient resemble each other. With fewer than 1 ÷ α − 1 patients only the whole image is safe.

    Args:
        shares: of `measure_sufficient_share`, one per sample.
        patients: patient of each sample.
        alpha: largest probability of a region that does not keep the prediction, in (0, 1).

    Raises:
        ConfigError: no samples, different numbers of shares and patients, or α out of range.

    Example:
        >>> from seewhy.explain.judging import calibrate_region
        >>> calibrate_region([0.1, 0.2, 0.3, 0.4, 0.2], ["a", "b", "c", "d", "d"], alpha=0.25).share
        0.4
    """
    if not 0 < alpha < 1 or len(shares) != len(patients) or not len(shares):
        raise ConfigError(
            f"{len(shares)} shares of {len(patients)} samples, alpha={alpha}; expected one each, alpha between 0 and 1"
        )
    largest: dict[str, float] = {}
    for share, patient in zip(shares, patients, strict=True):
        largest[patient] = max(float(share), largest.get(patient, 0.0))
    ordered = sorted(largest.values())
    rank = math.ceil((len(ordered) + 1) * (1 - alpha) - 1e-9)
    share = ordered[rank - 1] if rank <= len(ordered) else 1.0
    return ConformalRegion(share=share, coverage=1 - alpha, patients=len(ordered))


def measure_sufficient_share(
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    steps: int = 20,
    fill: Fill = "blur",
    seed: int = 0,
    budget: MemoryBudget | None = None,
) -> Tensor:
    """Measure the smallest share of the pixels, by the map, from which on the predicted class is kept.

    All other pixels are filled. A share counts only if all larger ones keep the class as well, so that regions that
    grow never lose it again.

    Args:
        module: the explained module.
        inputs: the batch.
        maps: of the batch.
        steps: shares that are tried: 1 ÷ steps, 2 ÷ steps, …, 1.
        fill: value of all other pixels.
        seed: seed of the order among equal pixels.
        budget: memory limit of a forward; None is 1 GiB.

    Returns:
        [B] float64 in (0, 1].

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient
        >>> from seewhy.explain.judging import measure_sufficient_share
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(100, 1))
        >>> _ = nn.init.zeros_(net[1].weight), nn.init.constant_(net[1].bias, -0.5)
        >>> net[1].weight.data[0, 7] = 1  # one pixel decides
        >>> image = torch.rand(1, 1, 10, 10) + 1
        >>> maps = InputXGradient()(net, image, target=1)
        >>> measure_sufficient_share(net, image, maps, fill="zero")
        tensor([0.0500], dtype=torch.float64)
    """
    if steps < 1:
        raise ConfigError(f"steps={steps}; expected at least 1")
    subject = ExplainedModel(module, inputs)
    target = predict_classes(maps.scores).to(next(iter(subject.inputs.values())).device)
    removal = Removal(subject, target, fill, budget=budget, output="margin")
    values = join_maps({name: maps.evidence()[name] for name in removal.sizes}).to(removal.device)
    ranks = rank_shuffled(values, make_generators(subject.inputs, seed=seed))
    counts = [math.ceil(removal.pixels * step / steps - 1e-9) for step in range(1, steps)]
    with keep_unchanged(subject.module):
        kept = removal.measure(ranks, [(count, removal.pixels) for count in counts]) > 0
    # Shares from the largest on, as long as all of them keep the class.
    unbroken = kept.flip(1).long().cumprod(dim=1).sum(dim=1)
    return ((steps - unbroken).double() / steps).cpu()
