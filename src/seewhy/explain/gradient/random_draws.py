"""Random numbers that depend on a seed and a step alone: not on the device, the batch, or what was drawn before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import ConfigError

__all__ = ["checked_noise", "generator", "step_noise"]


def generator(seed: int, *numbers: int) -> torch.Generator:
    """A generator of its own for each combination of numbers; the global one is left alone."""
    state = np.random.SeedSequence((seed, *numbers)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) % 2**63)


def step_noise(images: Mapping[str, Tensor], seed: int, steps: Sequence[int], share: float) -> dict[str, Tensor]:
    """Gaussian noise for rows of images, the same for every sample of a step.

    A sample's noise so does not depend on the batch it is in. It is drawn on the CPU, so that CUDA gets the same.

    Args:
        images: input → [n, C, *spatial], one row per entry of `steps`.
        seed: of the draws, not negative.
        steps: the step of each row.
        share: standard deviation as a share of each image's range (Smilkov 2017, §3.3).

    Returns:
        Input → noise of the images' shape.
    """
    found = {}
    for number, (name, image) in enumerate(images.items()):
        drawn = {
            step: torch.randn(image.shape[1:], generator=generator(seed, step, number)) for step in dict.fromkeys(steps)
        }
        axes = tuple(range(1, image.ndim))
        spread = share * (image.amax(dim=axes, keepdim=True) - image.amin(dim=axes, keepdim=True))
        found[name] = torch.stack([drawn[step] for step in steps]).to(image) * spread
    return found


def checked_noise(share: float, samples: int, seed: int) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ConfigError: an option out of its range.
    """
    problems = []
    if share < 0:
        problems.append(f"noise={share}; expected a share of the image's range, at least 0")
    if samples < 1:
        problems.append(f"samples={samples}; expected at least 1")
    if seed < 0:
        problems.append(f"seed={seed}; expected a number that is not negative")
    if problems:
        raise ConfigError("; ".join(problems))
