"""Measures of robustness: how much maps change with the image, and whether like maps come with like predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import make_generators, replace_images
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps
from seewhy.explain.targets import predict_classes

__all__ = ["compute_sufficiency", "measure_max_sensitivity"]


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


def compute_sufficiency(maps: Maps, *, threshold: float = 0.6) -> Tensor:
    """Compute the share of the samples with a similar map that have the same predicted class (Dasgupta 2022).

    Maps are similar if their distance, standardised in each pixel over the batch, is at most a share of the largest
    distance in the batch.

    Args:
        maps: of a batch; its samples are compared with each other.
        threshold: share of the largest distance.

    Returns:
        [B] float64 in [0, 1]; 0, as in Quantus, for a sample without any similar one.
    """
    values = join_maps(maps.evidence()).double().cpu()
    deviation = torch.cat([values, values]).std(dim=0)  # SciPy's, over both sets of a pairwise distance
    used = deviation > 0
    distances = torch.cdist(values[:, used] / deviation[used], values[:, used] / deviation[used])
    near = (distances <= threshold * distances.max()) & ~torch.eye(len(values), dtype=torch.bool)
    predicted = predict_classes(maps.scores).cpu()
    alike = near & (predicted[:, None] == predicted)
    return alike.sum(dim=1).double() / near.sum(dim=1).clamp_min(1)
