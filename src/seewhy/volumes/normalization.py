"""Normalize stored intensities per channel, as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.transforms.normalization import make_scale
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
"""Options of each scheme."""
REQUIRED = {"ct": ("lower", "upper", "mean", "std"), "scale": ("by",)}
DEFAULTS: dict[str, Any] = {"low": 0.5, "high": 99.5, "nonzero": False}


class ChannelNormalization:
    """Normalizes patches; statistics of the whole volume are measured once, before the first patch.

    Schemes, as plain data per channel, e.g. ``{"scheme": "ct", "lower": -900, "upper": 300, "mean": -40, "std": 120}``:

    - ``none``: unchanged;
    - ``ct``: clipped to [lower, upper], then (v - mean) / std (nnU-Net's CTNormalization);
    - ``zscore``: (v - mean) / std of the volume's channel (nnU-Net's ZScoreNormalization);
    - ``rescale``: the volume's minimum to 0, its maximum to 1;
    - ``percentile``: clipped to the percentiles `low` and `high` (0.5 and 99.5) of the volume, mapped to [0, 1];
    - ``scale``: v / by, e.g. 255;
    - ``patch_zscore``: (v - mean) / std of the single patch, for networks trained that way; results then depend on
      the positions of patches.

    With ``nonzero: true`` the statistics are computed over voxels where any channel is not 0, and all others are set to
    0. With ``nonzero: box`` (`zscore` and `rescale`) they are computed over the bounding box of these voxels, to which
    nnU-Net crops before it normalizes; nothing else changes.

    Args:
        schemes: one mapping per channel, or one for all.
        channels: of the volume.

    Raises:
        ConfigError: unknown schemes or options, missing options, or another number of channels.

    Example:
        >>> normalize = ChannelNormalization([{"scheme": "scale", "by": 255}], channels=1)
        >>> out = np.empty((1, 1, 1, 2), np.float32)
        >>> normalize(np.array([[[[0, 51]]]], np.uint8), out)
        >>> out
        array([[[[0. , 0.2]]]], dtype=float32)
    """

    def __init__(self, schemes: Sequence[Mapping[str, Any]], *, channels: int) -> None:
        if len(schemes) == 1:
            schemes = list(schemes) * channels
        if len(schemes) != channels:
            raise ConfigError(f"normalization has {len(schemes)} entries, the volume has {channels} channel(s)")
        self.schemes = [_check_scheme(scheme) for scheme in schemes]
        self._affine: list[dict[str, float]] = [dict(scheme) for scheme in self.schemes]
        self._ready = not self.needs

    @property
    def needs(self) -> bool:
        """Whether statistics of the whole volume must be bound first."""
        return any(scheme["scheme"] in ("zscore", "rescale", "percentile") for scheme in self.schemes)

    @property
    def percentiles(self) -> list[tuple[float, ...]]:
        """Needed percentiles per channel."""
        return [(s["low"], s["high"]) if s["scheme"] == "percentile" else () for s in self.schemes]

    @property
    def nonzero(self) -> list[Counted]:
        """Voxels that count, per channel; see `seewhy.volumes.statistics.Counted`."""
        return [scheme.get("nonzero", False) for scheme in self.schemes]

    def settings(self) -> list[dict[str, Any]]:
        """Plain data for a fingerprint."""
        return [dict(scheme) for scheme in self.schemes]

    def bind(self, statistics: Mapping[str, Any]) -> None:
        """Set the statistics from `seewhy.volumes.statistics.measure`.

        Raises:
            ConfigError: statistics of other channels or percentiles.
        """
        try:
            for scheme, measured, bound in zip(self.schemes, statistics["channels"], self._affine, strict=True):
                if scheme["scheme"] == "zscore":
                    bound |= {"mean": float(measured["mean"]), "std": float(measured["std"])}
                elif scheme["scheme"] == "rescale":
                    bound |= {"low": float(measured["min"]), "high": float(measured["max"])}
                elif scheme["scheme"] == "percentile":
                    bound |= {"low": float(measured["percentiles"][0]), "high": float(measured["percentiles"][1])}
        except (ValueError, KeyError, IndexError, TypeError) as error:
            message = "stored statistics do not fit the normalization; start again with volume.overwrite=true"
            raise ConfigError(message) from error
        self._ready = True

    def __call__(self, values: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Normalize one patch.

        Args:
            values: [C, z, y, x] as stored.
            out: [C, z, y, x] float32, overwritten.

        Raises:
            RuntimeError: statistics are needed, but `bind` was not called.
        """
        if not self._ready:
            raise RuntimeError("call bind with the statistics of the volume first")
        out[...] = values
        for channel, scheme in enumerate(self.schemes):
            _apply(out[channel], scheme["scheme"], self._affine[channel])
            if scheme.get("nonzero") is True:
                out[channel][~(values != 0).any(0)] = 0


def _apply(image: NDArray[np.float32], scheme: str, numbers: Mapping[str, float]) -> None:
    """Normalise one channel [z, y, x] in place."""
    if scheme == "patch_zscore":
        scheme, numbers = "zscore", {"mean": image.mean(dtype=np.float64), "std": image.std(dtype=np.float64)}
    make_scale(scheme, numbers).apply(image)


def _check_scheme(scheme: Any) -> dict[str, Any]:
    if not isinstance(scheme, Mapping):
        raise ConfigError(f"normalization {scheme!r} is not a mapping; expected e.g. {{scheme: zscore}}")
    name = str(scheme.get("scheme"))
    check_choice(name, SCHEMES, "normalization.scheme")
    check_options([key for key in scheme if key != "scheme"], SCHEMES[name], "normalization", of=name)
    missing = [key for key in REQUIRED.get(name, ()) if scheme.get(key) is None]
    if missing:
        raise ConfigError(f"normalization {name} needs {', '.join(missing)}")
    if name == "scale" and scheme["by"] == 0:
        raise ConfigError("normalization scale: by=0; expected another number, e.g. 255")
    complete = {key: scheme.get(key, DEFAULTS.get(key)) for key in SCHEMES[name]}
    if name == "percentile" and not 0 <= complete["low"] < complete["high"] <= 100:
        raise ConfigError(
            f"normalization percentile: low={complete['low']}, high={complete['high']}; expected 0 <= low < high <= 100"
        )
    counted = complete.get("nonzero", False)
    if not isinstance(counted, bool) and (counted != "box" or name == "percentile"):
        expected = "true or false" if name == "percentile" else "true, false or box"
        raise ConfigError(f"normalization {name}: nonzero={counted!r}; expected {expected}")
    return {"scheme": name, **complete}
