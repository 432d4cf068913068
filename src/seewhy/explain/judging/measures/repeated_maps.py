"""Measures that explain again: of noisy images (robustness), of another class, and with a re-initialised network.

The verdict of `RandomizationTest` is stricter: it compares with the likeness of maps of different samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d

from seewhy.errors import ConfigError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.gradient.base import draw_step_noise
from seewhy.explain.judging.perturbation import make_generators, replace_images
from seewhy.explain.judging.reinitialization import reinitialize
from seewhy.explain.judging.shared_work import SharedWork
from seewhy.explain.judging.similarity import join_maps, rank_correlation
from seewhy.explain.maps import Maps

__all__ = [
    "compute_histogram_entropy",
    "measure_efficient_mprt",
    "measure_max_sensitivity",
    "measure_random_logit",
    "measure_smooth_mprt",
]


def measure_max_sensitivity(
    explainer: Explainer,
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    radius: float = 0.02,
    draws: int = 10,
    seed: int = 0,
) -> Tensor:
    """Measure the largest relative change of the signed map under small noise (Yeh 2019, definition 3.1).

    The change is ‖Φ(x + ε) − Φ(x)‖ ÷ ‖Φ(x)‖ for the same target, with ε uniform in [−radius, radius]. Quantus' default
    is a radius of 0.2 and 200 draws; the largest of more draws is larger.

    Args:
        explainer: the method that made the maps.
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        radius: as a share of each image's range.
        draws: number of noisy copies.
        seed: seed of the noise, together with the content of each sample.

    Returns:
        [B] float64, lower is better; NaN for an empty map.

    Raises:
        ConfigError: a negative radius, or no draw.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient, Saliency
        >>> from seewhy.explain.judging import measure_max_sensitivity
        >>> net, image = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.rand(2, 1, 4, 4)
        >>> maps = Saliency()(net, image, target=1)  # of a linear network: it does not depend on the image
        >>> measure_max_sensitivity(Saliency(), net, image, maps)
        tensor([0., 0.], dtype=torch.float64)
    """
    if radius < 0 or draws < 1:
        raise ConfigError(f"radius={radius}, draws={draws}; expected radius ≥ 0 and at least one draw")
    images = ExplainedModel(module, inputs).inputs
    sources = make_generators(images, seed=seed)
    original = join_maps(maps.maps).double().cpu()
    size = original.norm(dim=1)
    changes = []
    for _ in range(draws):
        noisy = {name: image + _draw_uniform(image, sources, radius) for name, image in images.items()}
        other = explainer(module, replace_images(inputs, noisy), target=maps.explained)
        values = join_maps({name: other.maps[name] for name in maps.maps}).double().cpu()
        changes.append((values - original).norm(dim=1) / size)
    return torch.stack(changes).amax(dim=0)


def _draw_uniform(image: Tensor, sources: list[torch.Generator], radius: float) -> Tensor:
    """Draw noise in [−radius, radius] times each image's range."""
    drawn = torch.stack([torch.rand(image.shape[1:], generator=source) for source in sources]).to(image)
    spread = image.flatten(1).amax(dim=1) - image.flatten(1).amin(dim=1)
    return (2 * drawn - 1) * radius * spread.reshape(-1, *[1] * (image.ndim - 1))


Result = TypeVar("Result")
WINDOW = 7
"""Pixels of a window of the structural similarity."""


def measure_random_logit(
    explainer: Explainer, module: nn.Module, inputs: Inputs, maps: Maps, *, others: Tensor | None = None, seed: int = 0
) -> Tensor:
    """Measure the structural similarity of the signed map to that of a random other class (Sixt 2020).

    As in Quantus, maps are compared as rows of pixels, in windows of 7 pixels.

    Args:
        explainer: the method that made the maps.
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        others: [B] the other classes; None draws them.
        seed: seed of the draw, together with the content of each sample.

    Returns:
        [B] float64 in [-1, 1]; 1 if the map does not depend on the class.

    Raises:
        ConfigError: a module with a single class.
    """
    classes = max(maps.scores.shape[1], 2)
    if others is None:
        sources = make_generators(ExplainedModel(module, inputs).inputs, seed=seed)
        steps = [int(torch.randint(1, classes, (1,), generator=source)) for source in sources]
        others = (maps.target.cpu() + torch.tensor(steps)) % classes
    if len(others) != len(maps.target):
        raise ConfigError(f"{len(others)} other classes for {len(maps.target)} samples; expected one each")
    other = explainer(module, inputs, target=others)
    return _compare_rows(_join_signed(maps), _join_signed(other))


def measure_efficient_mprt(
    explainer: Explainer,
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    bins: int = 100,
    seed: int = 0,
    shared: SharedWork | None = None,
) -> Tensor:
    """Measure the relative rise of the map's entropy when the whole network is re-initialised (Hedström 2024).

    Args:
        explainer: the method that made the maps.
        module: the explained module; it is restored afterwards.
        inputs: the batch.
        maps: the maps to judge.
        bins: of the histogram of a signed map's values.
        seed: seed of the weights.
        shared: keeps the drawn weights for other measures of the same batch.

    Returns:
        [B] float64, higher is better; NaN for a constant map.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain.judging import CentreControl, measure_efficient_mprt
        >>> net, image = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.rand(2, 1, 4, 4)
        >>> centre = CentreControl()  # the same map whatever the network
        >>> measure_efficient_mprt(centre, net, image, centre(net, image))
        tensor([0., 0.], dtype=torch.float64)
    """
    other = _explain_reinitialized(lambda: explainer(module, inputs, maps.explained), module, inputs, seed, shared)
    before, after = (compute_histogram_entropy(_join_signed(one), bins=bins) for one in (maps, other))
    return (after - before) / before


def measure_smooth_mprt(
    explainer: Explainer,
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    samples: int = 8,
    noise: float = 0.1,
    seed: int = 0,
    shared: SharedWork | None = None,
) -> Tensor:
    """Measure the rank correlation of smoothed maps with those of the re-initialised network (Hedström 2024).

    A smoothed map is the mean of the signed maps of noisy copies and of the image itself; magnitudes are compared. All
    layers are re-initialised, which is the last value of Quantus' list; Quantus' default is 50 samples.

    Args:
        explainer: the method that made the maps.
        module: the explained module; it is restored afterwards.
        inputs: the batch.
        maps: the maps to judge.
        samples: number of averaged maps, of which one is without noise.
        noise: standard deviation as a share of each image's range.
        seed: seed of noise and weights.
        shared: keeps the drawn weights for other measures of the same batch.

    Returns:
        [B] float64 in [-1, 1], lower is better; NaN for a constant map.
    """
    if samples < 1:
        raise ConfigError(f"samples={samples}; expected at least 1")
    images = ExplainedModel(module, inputs).inputs

    def smooth_maps() -> Tensor:
        total = torch.zeros(())
        for step in range(samples):
            drawn = draw_step_noise(images, seed, [step] * len(maps.target), noise if step + 1 < samples else 0.0)
            noisy = {name: image + drawn[name] for name, image in images.items()}
            one = explainer(module, replace_images(inputs, noisy), target=maps.explained)
            total = total + join_maps({name: one.maps[name] for name in maps.maps}).double().cpu()
        return (total / samples).abs()

    before = smooth_maps()
    after = _explain_reinitialized(smooth_maps, module, inputs, seed, shared)
    return rank_correlation(before, after)


def compute_histogram_entropy(values: Tensor, *, bins: int = 100) -> Tensor:
    """Compute the entropy of the histogram of each row [B, P] between its extremes, [B] float64 in nats."""
    result = []
    for row in values.detach().cpu().numpy():
        counts = np.histogram(row, bins=bins)[0]
        shares = counts[counts > 0] / counts.sum()
        result.append(float(-(shares * np.log(shares)).sum()) + 0.0)
    return torch.tensor(result, dtype=torch.float64)


def _explain_reinitialized(
    explain: Callable[[], Result], module: nn.Module, inputs: Inputs, seed: int, shared: SharedWork | None
) -> Result:
    with reinitialize(ExplainedModel(module, inputs), seed=seed, shared=shared):
        return explain()


def _join_signed(maps: Maps) -> Tensor:
    return join_maps(maps.maps).double().cpu()


def _compare_rows(first: Tensor, second: Tensor) -> Tensor:
    """Compute the SSIM of rows [B, P] in windows along them (Wang 2004), with covariances of samples, [B]."""
    window = min(WINDOW, first.shape[1])

    def mean(values: Tensor) -> Tensor:
        return avg_pool1d(values[:, None], window, stride=1)[:, 0]

    both = torch.cat([first, second], dim=1)
    spread = (both.amax(dim=1) - both.amin(dim=1))[:, None]
    c1, c2 = (0.01 * spread) ** 2, (0.03 * spread) ** 2
    a, b = mean(first), mean(second)
    unbiased = window / (window - 1)
    var_a, var_b = unbiased * (mean(first**2) - a**2), unbiased * (mean(second**2) - b**2)
    covariance = unbiased * (mean(first * second) - a * b)
    similarity = (2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2))
    return similarity.mean(dim=1)
