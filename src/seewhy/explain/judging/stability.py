"""Whether a map stays when the image hardly changes."""

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

    NaN where a map has a single value, or the method refuses the changed image.

    Attributes:
        noise: [B] mean over draws of noise.
        flip: axis → [B], the mirrored image's map mirrored back. Low also where the network itself is not
            indifferent to the side.
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
        explainer: what made the maps.
        module: what was explained.
        inputs: the batch.
        maps: what is judged.
        noise: standard deviation of Gaussian noise, as a share of each image's own.
        draws: of noise.
        seed: of the draws, which are the same for all samples.

    Raises:
        ConfigError: a negative deviation, or no draw.
    """
    if noise < 0 or draws < 1:
        raise ConfigError(f"noise={noise}, draws={draws}; expected noise ≥ 0 and at least one draw")
    images = ExplainedModel(module, inputs).inputs
    own = subsample(join_maps(maps.evidence())).to(next(iter(images.values())).device)

    def likeness(changed: dict[str, Tensor], *, mirrored: int | None = None) -> Tensor:
        """With the evidence of changed images, mirrored back along an axis."""
        try:
            found = explainer(module, replace_images(inputs, changed), target=maps.target).evidence()
        except ExplanationError:
            return own.new_full((len(own),), float("nan"), dtype=torch.float64)
        back = {name: found[name] if mirrored is None else found[name].flip(mirrored) for name in maps.maps}
        return rank_correlation(own, subsample(join_maps(back)))

    generator = torch.Generator().manual_seed(seed)
    noisy = [likeness({name: _noisy(one, noise, generator) for name, one in images.items()}) for _ in range(draws)]
    flip = {
        name: likeness({input_: one.flip(axis) for input_, one in images.items()}, mirrored=axis)
        for name, axis in AXES.items()
        if all(one.ndim - 2 >= -axis for one in images.values())
    }
    return Stability(noise=torch.stack(noisy).mean(dim=0), flip=flip)


def _noisy(image: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(image.shape[1:], generator=generator).to(image)
    deviation = image.flatten(1).std(dim=1).reshape(-1, *[1] * (image.ndim - 1))
    return image + noise * deviation * drawn
