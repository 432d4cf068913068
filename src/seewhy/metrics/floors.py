"""What a patient's images give away to one who knows nothing: the scores every method is to be held against.

On real FLAIR a three-class Otsu threshold in the brain beats most published weakly-supervised methods, so a
score without this beside it proves little. No floor sees a label, a mask or a trained weight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seewhy.metrics.otsu import otsu_thresholds

__all__ = ["Guess", "centre_prior", "floors"]

ONE_SIGMA = 0.6065306597126334
"""exp(-1/2): height of a Gaussian one standard deviation from its centre."""


class Guess(NamedTuple):
    """A floor's answer: a mask, a map of scores, or both; None for what it does not give."""

    mask: Tensor | None
    """[S, H, W] bool."""
    score: Tensor | None
    """[S, H, W] float32, higher is more lesion."""


def floors(image: Tensor, body: Tensor) -> dict[str, Guess]:
    """All guesses about one patient from its intensities and its body.

    Args:
        image: [S, C, H, W] normalised slices; channels are averaged into one intensity.
        body: [S, H, W] bool, the pixels of tissue.

    Returns:
        Name → guess: `floor_body` (all tissue is lesion; its average precision is the chance level),
        `floor_otsu` and `floor_otsu3` (brightest of two and of three classes of the patient's tissue),
        `floor_centre` (Gaussian around the centre of each slice's body; mask within one standard deviation),
        `floor_intensity` (brighter is more lesion; a map only).
    """
    intensity = torch.nan_to_num(image.detach().float().mean(dim=1))
    centre = centre_prior(body)
    return {
        "floor_body": Guess(body, body.float()),
        "floor_otsu": Guess(_brightest(intensity, body, classes=2), None),
        "floor_otsu3": Guess(_brightest(intensity, body, classes=3), None),
        "floor_centre": Guess((centre >= ONE_SIGMA) & body, centre),
        "floor_intensity": Guess(None, intensity),
    }


def centre_prior(body: Tensor) -> Tensor:
    """Gaussian on each slice with the mean and the standard deviations (rows, columns) of its body's pixels.

    Args:
        body: [S, H, W] bool.

    Returns:
        [S, H, W] float32 in [0, 1], 1 at the body's centroid; 0 on a slice without body.
    """
    mass = body.float()
    total = mass.sum(dim=(1, 2)).clamp(min=1.0)
    exponent = torch.zeros_like(mass)
    for axis in (1, 2):
        place = torch.arange(body.shape[axis], dtype=torch.float32, device=body.device)
        profile = mass.sum(dim=3 - axis)
        mean = (profile * place).sum(dim=1) / total
        offset = place[None, :] - mean[:, None]
        variance = ((profile * offset**2).sum(dim=1) / total).clamp(min=1e-6)
        squared = offset**2 / variance[:, None]
        exponent = exponent + (squared[:, :, None] if axis == 1 else squared[:, None, :])
    return torch.exp(-0.5 * exponent) * body.flatten(1).any(dim=1)[:, None, None]


def _brightest(intensity: Tensor, body: Tensor, *, classes: int) -> Tensor:
    tissue = intensity[body].cpu().numpy().astype(np.float64)
    if tissue.size == 0:
        return torch.zeros_like(body)
    return (intensity.double() > otsu_thresholds(tissue, classes=classes)[-1]) & body
