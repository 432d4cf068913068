"""Training augmentation of 3D patches with their labels, by MONAI's transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.data.transforms.augmentation import PositiveRange
from seewhy.option_types import Fraction, NonNegativeFloat
from seewhy.options import check_fields

__all__ = ["PatchAugmentation"]


@dataclass(frozen=True, kw_only=True)
class PatchAugmentation:
    """Random changes of a 3D patch and its labels by MONAI; options with `_probability` apply to that share of patches.

    Attributes:
        flip: probability of mirroring, for each of the three axes separately.
        rotate90: probability of quarter turns within slices.
        affine: probability of rotating and zooming.
        rotate: largest rotation in degrees, about each of the axes z, y, x.
        scale: range of the zoom.
        noise_probability: of added Gaussian noise.
        noise: its largest standard deviation, in normalised units.
        blur_probability: of smoothing.
        blur: range of its width in voxels.
        brightness_probability: of another factor and offset.
        gain: largest relative change of the intensities.
        offset: largest change added to them, in normalised units.
        gamma_probability: of another gamma curve.
        gamma: range of the exponent.

    Raises:
        ConfigError: values out of range.
    """

    flip: Fraction = 0.5
    rotate90: Fraction = 0.0
    affine: Fraction = 0.2
    rotate: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (15.0, 15.0, 15.0)
    scale: PositiveRange = (0.8, 1.25)
    noise_probability: Fraction = 0.1
    noise: NonNegativeFloat = 0.1
    blur_probability: Fraction = 0.1
    blur: PositiveRange = (0.5, 1.0)
    brightness_probability: Fraction = 0.15
    gain: NonNegativeFloat = 0.25
    offset: NonNegativeFloat = 0.1
    gamma_probability: Fraction = 0.1
    gamma: PositiveRange = (0.7, 1.5)

    def __post_init__(self) -> None:
        check_fields(self, "data.augmentation")

    def __call__(self, image: Tensor, mask: Tensor, seed: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return an augmented copy.

        Args:
            image: [C, z, y, x] float32, normalised.
            mask: [z, y, x] uint8.
            seed: numbers that all draws depend on.
        """
        state = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
        self._chain.set_random_state(seed=state)
        result = self._chain({"image": image, "mask": mask[None]})
        return _without_metadata(result["image"]), _without_metadata(result["mask"])[0].to(torch.uint8)

    @cached_property
    def _chain(self) -> Any:
        """The transforms of MONAI; those with probability 0 are left out."""
        from monai import transforms  # slow to import, and only volumes need it

        both = ("image", "mask")
        angles = [float(np.deg2rad(angle)) for angle in self.rotate]
        zoom = (self.scale[0] - 1, self.scale[1] - 1)
        blur = dict.fromkeys(("sigma_x", "sigma_y", "sigma_z"), tuple(self.blur))
        brightness, gamma, noise = self.brightness_probability, self.gamma_probability, self.noise_probability
        chain: list[tuple[float, Any]] = [
            *((self.flip, transforms.RandFlipd(both, prob=self.flip, spatial_axis=axis)) for axis in range(3)),
            (self.rotate90, transforms.RandRotate90d(both, prob=self.rotate90, spatial_axes=(1, 2))),
            (
                self.affine,
                transforms.RandAffined(
                    both, prob=self.affine, rotate_range=angles, scale_range=[zoom] * 3, mode=("bilinear", "nearest"),
                    padding_mode="reflection",
                ),
            ),
            (self.blur_probability, transforms.RandGaussianSmoothd("image", prob=self.blur_probability, **blur)),
            (brightness, transforms.RandScaleIntensityd("image", factors=self.gain, prob=brightness)),
            (brightness, transforms.RandShiftIntensityd("image", offsets=self.offset, prob=brightness)),
            (
                gamma,
                transforms.RandAdjustContrastd("image", prob=gamma, gamma=tuple(self.gamma), retain_stats=True),
            ),
            (noise, transforms.RandGaussianNoised("image", prob=noise, std=self.noise)),
        ]  # fmt: skip
        return transforms.Compose([transform for probability, transform in chain if probability > 0])


def _without_metadata(tensor: Tensor) -> Tensor:
    """Drop MONAI's metadata, which batches and workers would carry along."""
    from monai.data import MetaTensor

    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).contiguous()
