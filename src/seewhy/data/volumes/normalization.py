"""Normalise the intensities of volumes: schemes as plain data, and their numbers for each volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.data.transforms.normalization import IntensityScale, make_scale
from seewhy.data.volumes.survey import Survey, merge_brightness
from seewhy.errors import ConfigError
from seewhy.options import check_choice, check_options

__all__ = ["SCHEMES", "adopt_normalization", "check_scheme", "compute_scales", "list_schemes", "normalize"]

SCHEMES = {
    "ct": ("lower", "upper", "mean", "std"),
    "zscore": (),
    "rescale": (),
    "percentile": ("low", "high"),
    "scale": ("by",),
    "none": (),
}
"""Name of a scheme → the numbers that it takes."""
PERCENTILES = (0.5, 99.5)

FloatArray = NDArray[np.float32]


def check_scheme(scheme: str | Mapping[str, Any]) -> dict[str, Any]:
    """Check `data.normalization` and return it as a mapping.

    Args:
        scheme: a name; or a mapping with `scheme` and its numbers.

    Raises:
        ConfigError: unknown scheme, or numbers that it does not take.
    """
    asked = dict(scheme) if isinstance(scheme, Mapping) else {"scheme": scheme}
    name = str(asked.get("scheme", ""))
    check_choice(name, SCHEMES, "data.normalization")
    valid = SCHEMES[name]
    check_options([key for key in asked if key != "scheme"], valid, "data.normalization", of=name)
    given = [key for key in valid if asked.get(key) is not None]
    if (given and len(given) < len(valid)) or (name == "scale" and not given):
        raise ConfigError(f"data.normalization={name} takes {', '.join(valid)} together; given: {given or 'none'}")
    return asked


def list_schemes(scheme: str | Mapping[str, Any], surveys: Sequence[Survey]) -> list[dict[str, Any]]:
    """Return the normalisation of each channel as plain data, in the form that `seewhy.volumes.normalization` reads.

    - `ct` (nnU-Net, Isensee 2021): clip to percentiles 0.5 and 99.5 of the training foreground, subtract its mean,
      divide by its deviation: the same numbers for every volume.
    - `zscore`: mean and deviation of each volume. `rescale`: its lowest value becomes 0 and its highest 1.
    - `percentile`: its percentiles 0.5 and 99.5 become 0 and 1; values outside are clipped.
    - `scale`: divided by a number. `none`: as stored.

    Args:
        scheme: see `check_scheme`; numbers that it gives are used instead of measured ones.
        surveys: of the training cases, boxes only.
    """
    asked = check_scheme(scheme)
    channels = len(surveys[0].whole)
    if asked["scheme"] == "percentile" and len(asked) == 1:
        asked |= dict(zip(("low", "high"), PERCENTILES, strict=True))
    if asked["scheme"] != "ct" or len(asked) > 1:
        return [dict(asked) for _ in range(channels)]
    schemes = []
    for channel in range(channels):
        brightness = merge_brightness([survey.foreground[channel] for survey in surveys])
        if not brightness.count:
            raise ConfigError(
                "data.normalization=ct is measured in labelled training voxels, and there are none; give its numbers: "
                "{scheme: ct, lower: …, upper: …, mean: …, std: …}"
            )
        lower, upper = (brightness.percentile(share) for share in PERCENTILES)
        schemes.append({"scheme": "ct", "lower": lower, "upper": upper, "mean": brightness.mean, "std": brightness.std})
    return schemes


def adopt_normalization(
    asked: str | Mapping[str, Any], trained: Sequence[Mapping[str, Any]], *, channels: int
) -> list[dict[str, Any]]:
    """Return the normalisation that a model was trained with, per channel; numbers given by the user replace its own.

    Args:
        asked: see `check_scheme`.
        trained: normalisation of each channel, from the model's checkpoint.
        channels: number of channels of the volumes.

    Raises:
        ConfigError: another scheme is asked for than the model was trained with, or the volumes have other channels.
    """
    if len(trained) != channels:
        raise ConfigError(f"the model was trained on {len(trained)} channels, the volumes have {channels}")
    wanted = check_scheme(asked)
    names = sorted({str(scheme["scheme"]) for scheme in trained})
    if names != [wanted["scheme"]]:
        raise ConfigError(
            f"data.normalization={wanted['scheme']}, but the model was trained with {', '.join(names)}; set "
            f"data.normalization={names[0]}"
        )
    given = {key: value for key, value in wanted.items() if value is not None}
    return [{**scheme, **given} for scheme in trained]


def compute_scales(schemes: Sequence[Mapping[str, Any]], survey: Survey) -> list[IntensityScale]:
    """Compute the scale of each channel of one case.

    Args:
        schemes: from `list_schemes`.
        survey: statistics of the case, which `zscore`, `rescale` and `percentile` use.
    """
    scales = []
    for scheme, own in zip(schemes, survey.whole, strict=True):
        name = scheme["scheme"]
        numbers: Mapping[str, Any] = {"mean": own.mean, "std": own.std, "low": own.low, "high": own.high}
        if name == "percentile":
            numbers = {end: own.percentile(scheme[end]) for end in ("low", "high")}
        scales.append(make_scale(name, scheme if name in ("ct", "scale") else numbers))
    return scales


def normalize(values: NDArray[Any], scales: Sequence[IntensityScale]) -> FloatArray:
    """Normalise channels [C, z, y, x], each with its scale; float32."""
    return np.stack([scale(channel) for scale, channel in zip(scales, values, strict=True)])
