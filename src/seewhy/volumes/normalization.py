"""From stored intensities to what a network was trained on, per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError
from seewhy.options import check_choice, check_options
from seewhy.volumes.statistics import Counted

__all__ = ["SCHEMES", "ChannelNormalization"]

SCHEMES: dict[str, tuple[str, ...]] = {
    "none": (),
    "ct": ("lower", "upper", "mean", "std"),
    "zscore": ("nonzero",),
    "rescale": ("nonzero",),
    "percentile": ("low", "high", "nonzero"),
    "scale": ("by",),
    "patch_zscore": (),
}
"""Names, and the keys each takes."""
REQUIRED = {"ct": ("lower", "upper", "mean", "std"), "scale": ("by",)}
DEFAULTS: dict[str, Any] = {"low": 0.5, "high": 99.5, "nonzero": False}
SMALLEST_STD = 1e-8


class ChannelNormalization:
    """Normalises patches; statistics of the whole volume are measured once, before.

    Schemes, as plain data per channel, e.g. ``{"scheme": "ct", "lower": -900, "upper": 300, "mean": -40, "std": 120}``:

    - ``none``: as stored;
    - ``ct``: clipped to [lower, upper], then (v - mean) / std (nnU-Net's CTNormalization);
    - ``zscore``: (v - mean) / std of the volume's channel (nnU-Net's ZScoreNormalization);
    - ``rescale``: the volume's minimum to 0, its maximum to 1;
    - ``percentile``: clipped to the percentiles `low` and `high` (0.5 and 99.5) of the volume, which become 0 and 1;
    - ``scale``: v / by, e.g. 255;
    - ``patch_zscore``: (v - mean) / std of the single patch, for networks trained that way; results then depend on
      where patches lie.

    With ``nonzero: true`` the statistics are of voxels where any channel is not 0, and the others become 0. With
    ``nonzero: box`` (`zscore` and `rescale`) they are of all voxels in the box around these, which is what nnU-Net
    cuts out before it normalises; nothing else changes.

    Args:
        schemes: one mapping per channel, or one for all.
        channels: of the volume.

    Raises:
        ConfigError: for unknown schemes or keys, missing keys, or another number of channels.
    """

    def __init__(self, schemes: Sequence[Mapping[str, Any]], *, channels: int) -> None:
        if len(schemes) == 1:
            schemes = list(schemes) * channels
        if len(schemes) != channels:
            raise ConfigError(f"normalization has {len(schemes)} entries, the volume has {channels} channel(s)")
        self.schemes = [_checked(scheme) for scheme in schemes]
        self._affine: list[dict[str, float]] = [dict(scheme) for scheme in self.schemes]
        self._ready = not self.needs

    @property
    def needs(self) -> bool:
        """Whether statistics of the whole volume must be bound first."""
        return any(scheme["scheme"] in ("zscore", "rescale", "percentile") for scheme in self.schemes)

    @property
    def percentiles(self) -> list[tuple[float, ...]]:
        """Per channel the percentiles that are needed."""
        return [(s["low"], s["high"]) if s["scheme"] == "percentile" else () for s in self.schemes]

    @property
    def nonzero(self) -> list[Counted]:
        """Per channel which voxels count, see `seewhy.volumes.statistics.Counted`."""
        return [scheme.get("nonzero", False) for scheme in self.schemes]

    def settings(self) -> list[dict[str, Any]]:
        """Plain data for a fingerprint."""
        return [dict(scheme) for scheme in self.schemes]

    def bind(self, statistics: Mapping[str, Any]) -> None:
        """Take the statistics of `seewhy.volumes.statistics.measure`."""
        for scheme, found, bound in zip(self.schemes, statistics["channels"], self._affine, strict=True):
            if scheme["scheme"] == "zscore":
                bound |= {"mean": found["mean"], "std": found["std"]}
            elif scheme["scheme"] == "rescale":
                bound |= {"low": found["min"], "high": found["max"]}
            elif scheme["scheme"] == "percentile":
                bound |= {"low": found["percentiles"][0], "high": found["percentiles"][1]}
        self._ready = True

    def __call__(self, values: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Normalise one patch.

        Args:
            values: [C, z, y, x] as stored.
            out: [C, z, y, x] float32, filled.
        """
        assert self._ready, "statistics come first: bind"
        out[...] = values
        for channel, scheme in enumerate(self.schemes):
            _apply(out[channel], scheme["scheme"], self._affine[channel])
            if scheme.get("nonzero") is True:
                out[channel][~(values != 0).any(0)] = 0


def _apply(image: NDArray[np.float32], scheme: str, found: Mapping[str, float]) -> None:
    """Normalise one channel [z, y, x] in place, in the order of operations of nnU-Net's own classes."""
    if scheme == "ct":
        np.clip(image, found["lower"], found["upper"], out=image)
    if scheme in ("ct", "zscore"):
        image -= np.float32(found["mean"])
        image /= np.float32(max(found["std"], SMALLEST_STD))
    elif scheme in ("rescale", "percentile"):
        if scheme == "percentile":
            np.clip(image, found["low"], found["high"], out=image)
        image -= np.float32(found["low"])
        image /= np.float32(max(found["high"] - found["low"], SMALLEST_STD))
    elif scheme == "scale":
        image /= np.float32(found["by"])
    elif scheme == "patch_zscore":
        mean, std = image.mean(dtype=np.float64), image.std(dtype=np.float64)
        image -= np.float32(mean)
        image /= np.float32(max(std, SMALLEST_STD))


def _checked(scheme: Any) -> dict[str, Any]:
    if not isinstance(scheme, Mapping):
        raise ConfigError(f"normalization {scheme!r} is no mapping; expected e.g. {{scheme: zscore}}")
    name = str(scheme.get("scheme"))
    check_choice(name, SCHEMES, "normalization.scheme")
    check_options([key for key in scheme if key != "scheme"], SCHEMES[name], "normalization", of=name)
    missing = [key for key in REQUIRED.get(name, ()) if scheme.get(key) is None]
    if missing:
        raise ConfigError(f"normalization {name} needs {', '.join(missing)}")
    if name == "scale" and scheme["by"] == 0:
        raise ConfigError("normalization scale: by=0 divides by nothing")
    complete = {key: scheme.get(key, DEFAULTS.get(key)) for key in SCHEMES[name]}
    if name == "percentile" and not 0 <= complete["low"] < complete["high"] <= 100:
        raise ConfigError(f"normalization percentile: low {complete['low']} and high {complete['high']} are no range")
    counted = complete.get("nonzero", False)
    if not isinstance(counted, bool) and (counted != "box" or name == "percentile"):
        expected = "true or false" if name == "percentile" else "true, false or box"
        raise ConfigError(f"normalization {name}: nonzero={counted!r}; expected {expected}")
    return {"scheme": name, **complete}
