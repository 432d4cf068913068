"""A classifier's answer on given images with its heat maps, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain import explainer_modules
from seewhy.explain.base import Explainer
from seewhy.explain.maps import Maps
from seewhy.figures.colours import run_scale
from seewhy.figures.explanations.heatmaps import headline, write_planar

__all__ = ["Answer", "as_batch", "explainer_named", "summarised", "write_answer"]

Image = Any
"""A tensor or array [H, W], [C, H, W] or [B, C, H, W], or None for an image that is not there."""


class Answer(TypedDict):
    """What a model says of one case, or of a batch of several, which then come first in every shape."""

    predicted_class: Any
    """Class index, or [B] of them."""
    confidence: Any
    """Calibrated probability of the predicted class, or [B]."""
    probabilities: NDArray[np.float32]
    """[classes] or [B, classes], calibrated."""
    heatmaps: dict[str, NDArray[np.float32]]
    """Input → [H, W] or [B, H, W], non-negative, raw: on one scale for all inputs."""
    target: Any
    """The explained class, or [B]."""
    maps: Maps
    """All that the explainer found, signed maps among it."""
    files: list[Path]
    """Pictures that were written."""


def as_batch(images: Mapping[str, Image], *, channels: int, device: torch.device) -> dict[str, Tensor]:
    """Images of one size as a batch, with `present` [B, inputs] bool; an image that is None becomes zeros.

    Args:
        images: input → image, in the order of the model's inputs.
        channels: C of each.
        device: where the model is.

    Raises:
        ConfigError: no image at all, or shapes that do not belong together.
    """
    given = {name: _four_axes(name, image, channels) for name, image in images.items() if image is not None}
    if not given:
        raise ConfigError(f"no image was given; expected at least one of {', '.join(images)}")
    shapes = {name: tuple(image.shape) for name, image in given.items()}
    if len(set(shapes.values())) > 1:
        raise ConfigError(f"images of different shapes: {shapes}; registered images of one case have one size")
    first = next(iter(given.values()))
    batch = {name: given.get(name, torch.zeros_like(first)).to(device) for name in images}
    present = torch.tensor([[name in given for name in images]], device=device).expand(len(first), -1)
    return {**batch, "present": present}


def explainer_named(method: str | Explainer) -> Explainer:
    """The explainer of that name with its default options; one that is built already is returned as it is.

    Raises:
        ConfigError: no such method.
    """
    if isinstance(method, Explainer):
        return method
    files = explainer_modules()
    found = import_module(files[method]) if method in files else None
    for value in vars(found).values() if found else ():
        if isinstance(value, type) and issubclass(value, Explainer) and getattr(value, "method", None) == method:
            return value()
    raise ConfigError(f"method={method!r} is unknown; {nearest(method, files)}; or give an explainer with its options")


def summarised(maps: Maps, probability: Tensor) -> Answer:
    """An answer without pictures.

    Args:
        maps: of a batch.
        probability: [B, classes], calibrated.
    """
    shares = probability.detach().float().cpu().numpy()
    predicted = shares.argmax(axis=1)
    heat = {name: one.detach().float().cpu().numpy() for name, one in maps.evidence().items()}
    target = maps.target.cpu().numpy()
    if len(predicted) > 1:
        confidence = shares.max(axis=1)
        return Answer(
            predicted_class=predicted, confidence=confidence, probabilities=shares,
            heatmaps=heat, target=target, maps=maps, files=[],
        )  # fmt: skip
    return Answer(
        predicted_class=int(predicted[0]), confidence=float(shares.max()), probabilities=shares[0],
        heatmaps={name: one[0] for name, one in heat.items()}, target=int(target[0]), maps=maps, files=[],
    )  # fmt: skip


def write_answer(
    answer: Answer,
    images: Mapping[str, Tensor],
    folder: str | Path,
    sample_ids: Sequence[str],
    *,
    classes: Sequence[str],
    unit: str = "attribution",
) -> list[Path]:
    """Write each case's pictures as `seewhy.figures.explanations.heatmaps.write_planar` does, all on one scale.

    Args:
        answer: of a batch of cases.
        images: the batch, as from `as_batch`.
        folder: where to.
        sample_ids: one per case, safe as file names.
        classes: their names.
        unit: what the numbers are.
    """
    maps = answer["maps"].cpu()
    probabilities = np.atleast_2d(answer["probabilities"])
    heat = {name: one.float().numpy() for name, one in maps.evidence().items()}
    shares = maps.shares()
    scale, _ = run_scale(heat.values(), signed=False)
    files = []
    for i, sample in enumerate(sample_ids):
        present = dict(zip(heat, images["present"][i].tolist(), strict=True))
        shown = {name: images[name][i].detach().float().cpu().numpy().mean(axis=0) for name in heat}
        predicted, target = int(probabilities[i].argmax()), int(maps.target[i])
        title = headline(
            prediction=f"{predicted} {classes[predicted]}",
            probability=float(probabilities[i, predicted]),
            target=f"{target} {classes[target]}",
        )
        files += write_planar(
            folder,
            sample,
            {name: image if present[name] else None for name, image in shown.items()},
            {name: one[i] for name, one in heat.items()},
            method=maps.method,
            scale=scale,
            title=title,
            shares={name: float(share[i]) for name, share in shares.items()},
            unit=f"{unit}; one scale for all maps of this call",
        )
    return files


def _four_axes(name: str, image: Image, channels: int) -> Tensor:
    """[B, C, H, W] float32."""
    tensor = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image).float()
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim != 4 or tensor.shape[1] != channels:
        raise ConfigError(
            f"image {name!r} has shape {list(np.shape(image))}; expected [H, W], [{channels}, H, W] or "
            f"[B, {channels}, H, W]"
        )
    return tensor
