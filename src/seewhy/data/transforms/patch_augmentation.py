"""Training augmentation of patches by MONAI, image and labels alike, repeatable from the number of the draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai import transforms
from torch import Tensor

from seewhy.errors import ConfigError

__all__ = ["PatchAugmentation"]

BOTH = ("image", "mask")


@dataclass(frozen=True, kw_only=True)
class PatchAugmentation:
    """What may change between two looks at the same patch; each entry with `_probability` says how often.

    Attributes:
        flip: probability of mirroring, for each of the three axes by itself.
        rotate90: probability of turning by quarter turns within slices.
        affine: probability of turning and zooming.
        rotate: largest turn in degrees, about each of the axes z, y, x.
        scale: range of the zoom.
        noise_probability: of added Gaussian noise.
        noise: its largest deviation, in normalised units.
        blur_probability: of smoothing.
        blur: range of its width in voxels.
        brightness_probability: of another factor and offset.
        gain: largest relative change of the intensities.
        offset: largest change added to them, in normalised units.
        gamma_probability: of another gamma curve.
        gamma: range of the exponent.
    """

    flip: float = 0.5
    rotate90: float = 0.0
    affine: float = 0.2
    rotate: Sequence[float] = (15.0, 15.0, 15.0)
    scale: Sequence[float] = (0.8, 1.25)
    noise_probability: float = 0.1
    noise: float = 0.1
    blur_probability: float = 0.1
    blur: Sequence[float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    gain: float = 0.25
    offset: float = 0.1
    gamma_probability: float = 0.1
    gamma: Sequence[float] = (0.7, 1.5)

    def __post_init__(self) -> None:
        names = [entry.name for entry in fields(self)]
        shares = [name for name in names if name in ("flip", "rotate90", "affine") or name.endswith("_probability")]
        problems = [
            f"data.augmentation.{name}={getattr(self, name)} is a probability and must lie in 0..1"
            for name in shares
            if not 0 <= getattr(self, name) <= 1
        ]
        problems += [
            f"data.augmentation.{name}={list(getattr(self, name))} must be two rising numbers above 0"
            for name in ("scale", "blur", "gamma")
            if len(getattr(self, name)) != 2 or not 0 < getattr(self, name)[0] <= getattr(self, name)[1]
        ]
        problems += [
            f"data.augmentation.{name}={getattr(self, name)} must not be negative"
            for name in ("noise", "gain", "offset")
            if getattr(self, name) < 0
        ]
        if len(self.rotate) != 3 or min(self.rotate) < 0:
            problems.append(f"data.augmentation.rotate={list(self.rotate)} must be three angles, not negative")
        if problems:
            raise ConfigError("; ".join(problems))

    def __call__(self, image: Tensor, mask: Tensor, seed: Sequence[int]) -> tuple[Tensor, Tensor]:
        """An augmented copy.

        Args:
            image: [C, z, y, x] float32, normalised.
            mask: [z, y, x] uint8.
            seed: numbers that the draws come from, and nothing else.
        """
        state = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
        self._chain.set_random_state(seed=state)
        found = self._chain({"image": image, "mask": mask[None]})
        return _plain(found["image"]), _plain(found["mask"])[0].to(torch.uint8)

    @cached_property
    def _chain(self) -> Any:
        """The transforms; those that would never act are left out."""
        angles = [float(np.deg2rad(angle)) for angle in self.rotate]
        zoom = (self.scale[0] - 1, self.scale[1] - 1)
        blur = dict.fromkeys(("sigma_x", "sigma_y", "sigma_z"), tuple(self.blur))
        chain: list[tuple[float, Any]] = [
            *((self.flip, transforms.RandFlipd(BOTH, prob=self.flip, spatial_axis=axis)) for axis in range(3)),
            (self.rotate90, transforms.RandRotate90d(BOTH, prob=self.rotate90, spatial_axes=(1, 2))),
            (
                self.affine,
                transforms.RandAffined(
                    BOTH, prob=self.affine, rotate_range=angles, scale_range=[zoom] * 3, mode=("bilinear", "nearest"),
                    padding_mode="reflection",
                ),
            ),
            (self.blur_probability, transforms.RandGaussianSmoothd("image", prob=self.blur_probability, **blur)),
            (
                self.brightness_probability,
                transforms.RandScaleIntensityd("image", factors=self.gain, prob=self.brightness_probability),
            ),
            (
                self.brightness_probability,
                transforms.RandShiftIntensityd("image", offsets=self.offset, prob=self.brightness_probability),
            ),
            (
                self.gamma_probability,
                transforms.RandAdjustContrastd(
                    "image", prob=self.gamma_probability, gamma=tuple(self.gamma), retain_stats=True
                ),
            ),
            (
                self.noise_probability,
                transforms.RandGaussianNoised("image", prob=self.noise_probability, std=self.noise),
            ),
        ]  # fmt: skip
        return transforms.Compose([transform for probability, transform in chain if probability > 0])


def _plain(tensor: Tensor) -> Tensor:
    """Without MONAI's metadata, which batches and workers would drag along."""
    bare: Tensor = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
    return bare.contiguous()
