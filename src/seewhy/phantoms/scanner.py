"""Two simulated scanners: the same brain in other contrast, brightness across the head, sharpness and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from seewhy.batch import MODALITIES
from seewhy.phantoms.brain import Brain
from seewhy.phantoms.fields import FloatArray, frame_of, smooth_field

__all__ = ["SCANNERS", "Scanner", "Sequence", "acquire"]


@dataclass(frozen=True)
class Sequence:
    """Times of a spin-echo sequence in ms.

    Attributes:
        repetition: TR.
        echo: TE.
        inversion: TI, or None for a sequence without inversion.
    """

    repetition: float
    echo: float
    inversion: float | None = None

    def signal(self, t1: FloatArray, t2: FloatArray, density: FloatArray) -> FloatArray:
        """Magnitude of the signal, by the Bloch equations' solutions (Haacke et al. 1999, ch. 8).

        Spin echo: density · (1 - exp(-TR/T1)) · exp(-TE/T2); with inversion
        density · |1 - 2 exp(-TI/T1) + exp(-TR/T1)| · exp(-TE/T2).
        """
        recovered = 1 - np.exp(-self.repetition / t1)
        if self.inversion is not None:
            recovered = np.abs(1 - 2 * np.exp(-self.inversion / t1) + np.exp(-self.repetition / t1))
        return np.asarray(density * recovered * np.exp(-self.echo / t2), np.float32)


@dataclass(frozen=True)
class Scanner:
    """What a scanner makes of a brain.

    Attributes:
        sequences: modality → times.
        curve: exponent of the contrast curve; below 1 dark tissue is lifted.
        shading: change of brightness from the back of the head to the front, relative: the coil's field, the same
            for everybody.
        bias: standard deviation of the logarithm of a smooth field besides, drawn for each scan.
        blur: standard deviation of the point spread in voxels, within and across slices.
        noise: standard deviation of the Rician noise, relative to full scale.
        gain: ends of the draw of the scan's full scale.
    """

    sequences: Mapping[str, Sequence]
    curve: float
    shading: float
    bias: float
    blur: float
    noise: float
    gain: tuple[float, float]


SCANNERS = {
    "a": Scanner(
        sequences={
            "t1": Sequence(550, 12),
            "t1ce": Sequence(550, 12),
            "t2": Sequence(4500, 100),
            "flair": Sequence(9000, 120, 2450),
        },
        curve=1.0,
        shading=0.05,
        bias=0.03,
        blur=0.35,
        noise=0.010,
        gain=(900, 1200),
    ),
    "b": Scanner(
        sequences={
            "t1": Sequence(650, 14),
            "t1ce": Sequence(650, 14),
            "t2": Sequence(3000, 75),
            "flair": Sequence(7000, 90, 2150),
        },
        curve=0.75,
        shading=0.20,
        bias=0.03,
        blur=0.70,
        noise=0.015,
        gain=(250, 500),
    ),
}
"""One that is sharp and even, and one that is blurred and shaded with flatter contrast."""


def acquire(scanner: Scanner, brain: Brain, *, rng: np.random.Generator) -> dict[str, NDArray[np.int16]]:
    """Scan a brain in all modalities; as after skull stripping, all outside the brain is 0.

    Args:
        scanner: which.
        brain: whose.
        rng: of noise, bias and gain.

    Returns:
        Modality → [X, Y, Z] int16; inside the brain at least 1.
    """
    scans = {}
    shape = brain.inside.shape
    # The skull is stripped after scanning, so what lies outside does not darken the brain's rim.
    share = np.maximum(gaussian_filter(brain.inside.astype(np.float32), scanner.blur), 1e-3)
    coil = np.exp(scanner.shading * frame_of((shape[0], shape[1], shape[2])).y)
    for name in MODALITIES:
        t1 = brain.t1_enhanced if name == "t1ce" else brain.t1
        clean = scanner.sequences[name].signal(t1, brain.t2, brain.density)
        clean = clean / np.float32(np.percentile(clean[brain.inside], 99.5))
        curved = gaussian_filter(np.power(clean, np.float32(scanner.curve)), scanner.blur) / share
        field = np.exp(scanner.bias * smooth_field(rng, (shape[0], shape[1], shape[2]), 14))
        real = curved * coil * field + scanner.noise * rng.standard_normal(shape, dtype=np.float32)
        imaginary = scanner.noise * rng.standard_normal(shape, dtype=np.float32)
        values = np.rint(rng.uniform(*scanner.gain) * np.hypot(real, imaginary))
        scans[name] = np.where(brain.inside, np.maximum(values, 1), 0).astype(np.int16)
    return scans
