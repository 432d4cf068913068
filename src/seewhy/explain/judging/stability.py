"""Stability of a map under small changes of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.base import Explainer
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.judging.perturbation import replace_images
from seewhy.explain.judging.similarity import join_maps, rank_correlation, subsample
from seewhy.explain.maps import Maps

__all__ = ["AXES", "Stability", "measure_stability"]

AXES = {"width": -1, "height": -2, "depth": -3}


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Rank correlation of the evidence with that of a changed image, in [-1, 1].

    NaN if a map is constant, or the method raises an error for the changed image.

    Attributes:
        noise: [B] mean over draws of noise.
        flip: axis → [B], for the map of the mirrored image, mirrored back. It is also low if the network itself treats
            the sides differently.
    """

    noise: Tensor
    flip: dict[str, Tensor]


def measure_stability(
    explainer: Explainer,
    module: nn.Module,
    inputs: Inputs,
    maps: Maps,
    *,
    noise: float = 0.05,
    draws: int = 2,
    seed: int = 0,
) -> Stability:
    """Explain noisy and mirrored copies for the same targets, and compare (Arun 2021; Yeh 2019 on small changes).

    Args:
        explainer: the method that made the maps.
        module: the explained module.
        inputs: the batch.
        maps: the maps to judge.
        noise: standard deviation of Gaussian noise, as a share of each image's standard deviation.
        draws: number of noisy copies.
        seed: seed of the noise, which is the same for all samples.

    Raises:
        ConfigError: a negative standard deviation, or no draw.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient, measure_stability
        >>> net, image = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.rand(2, 1, 4, 4)
        >>> explainer = InputXGradient()
        >>> result = measure_stability(explainer, net, image, explainer(net, image, target=1), noise=0)
        >>> result.noise, sorted(result.flip)
        (tensor([1., 1.], dtype=torch.float64), ['height', 'width'])
    """
    if noise < 0 or draws < 1:
        raise ConfigError(f"noise={noise}, draws={draws}; expected noise ≥ 0 and at least one draw")
    images = ExplainedModel(module, inputs).inputs
    original = subsample(join_maps(maps.evidence())).to(next(iter(images.values())).device)

    def compare(changed: dict[str, Tensor], *, mirrored: int | None = None) -> Tensor:
        """Compare with the evidence of changed images, mirrored back along an axis."""
        try:
            evidence = explainer(module, replace_images(inputs, changed), target=maps.explained).evidence()
        except ExplanationError:
            return original.new_full((len(original),), float("nan"), dtype=torch.float64)
        back = {name: evidence[name] if mirrored is None else evidence[name].flip(mirrored) for name in maps.maps}
        return rank_correlation(original, subsample(join_maps(back)))

    generator = torch.Generator().manual_seed(seed)
    noisy = [
        compare({name: _add_noise(image, noise, generator) for name, image in images.items()}) for _ in range(draws)
    ]
    flip = {
        axis_name: compare({name: image.flip(axis) for name, image in images.items()}, mirrored=axis)
        for axis_name, axis in AXES.items()
        if all(image.ndim - 2 >= -axis for image in images.values())
    }
    return Stability(noise=torch.stack(noisy).mean(dim=0), flip=flip)


def _add_noise(image: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(image.shape[1:], generator=generator).to(image)
    deviation = image.flatten(1).std(dim=1).reshape(-1, *[1] * (image.ndim - 1))
    return image + noise * deviation * drawn
