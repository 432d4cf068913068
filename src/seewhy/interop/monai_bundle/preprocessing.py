"""Translate the transforms of a MONAI bundle to the axes, voxel size and normalisation of a prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seewhy.errors import CheckpointError
from seewhy.interop.monai_bundle.config import BundleConfig

__all__ = ["Preprocessing", "read_preprocessing"]

WITHOUT_EFFECT = (
    "LoadImage", "EnsureChannelFirst", "EnsureType", "CastToType", "ToTensor", "CopyItems", "AddChannel", "ToDevice",
    "CheckSpacing", "SelectItems",
)  # fmt: skip
"""Transforms that change neither values nor axes, or whose work the engine does."""
XYZ, ZYX = (2, 1, 0), (0, 1, 2)
"""Axes of (Z, Y, X) in the order in which the network sees them: as MONAI reads files, and turned to Z, Y, X."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What the transforms of a bundle mean for a prediction.

    Attributes:
        order: axes of (Z, Y, X) in the order in which the network sees them.
        spacing: millimetres along Z, Y and X; None where the bundle states none.
        normalization: scheme of every channel, see `seewhy.volumes.normalization`.
        orientation: directions of the axes that images are turned to, e.g. RAS; None leaves them as stored.
    """

    order: tuple[int, int, int] = XYZ
    spacing: tuple[float, float, float] | None = None
    normalization: Mapping[str, Any]
    orientation: str | None = None


def read_preprocessing(config: BundleConfig, *, channels: int) -> Preprocessing | CheckpointError:
    """Translate `preprocessing` of a bundle; the error names the transform that cannot be translated.

    Args:
        config: of the bundle.
        channels: of the images; normalisations over all channels at once are known for one channel only.
    """
    node = config.get("preprocessing")
    transforms = node.get("transforms") if isinstance(node, dict) else node
    if not isinstance(transforms, list):
        return CheckpointError(f"{config.file} has no list of transforms in `preprocessing`")
    found: dict[str, Any] = {}
    schemes: list[dict[str, Any]] = []
    try:
        for place, transform in enumerate(transforms):
            key = f"preprocessing#transforms#{place}"
            if not isinstance(transform, dict):
                raise config.refuse(key, transform, "is not a transform by its name and arguments")
            _read_transform(config, transform, key, channels, found, schemes)
        if len(schemes) > 1:
            raise config.refuse("preprocessing", transforms[-1].get("_target_"), "is a second normalisation")
    except CheckpointError as error:
        return error
    return Preprocessing(normalization=schemes[0] if schemes else {"scheme": "none"}, **found)


def _read_transform(
    config: BundleConfig,
    transform: Mapping[str, Any],
    key: str,
    channels: int,
    found: dict[str, Any],
    schemes: list[dict[str, Any]],
) -> None:
    target = str(transform.get("_target_"))
    name = target.rpartition(".")[2].removesuffix("d").removesuffix("Dict").removesuffix("D")
    if name in WITHOUT_EFFECT or transform.get("_disabled_") is True:
        if name == "CheckSpacing":
            found["spacing"] = _turn(config.resolve(transform.get("spacing"), f"{key}#spacing"))
        return

    def read(option: str, default: Any = None) -> Any:
        return config.resolve(transform.get(option, default), f"{key}#{option}")

    if name == "Orientation":
        found["orientation"] = str(read("axcodes", "RAS"))
    elif name == "Spacing":
        found["spacing"] = _turn(read("pixdim"))
    elif name == "Transpose" and read("indices") in ([0, 3, 2, 1], [0, 1, 2, 3]):
        found["order"] = ZYX if read("indices") == [0, 3, 2, 1] else XYZ
    elif (scheme := _read_normalization(name, read, channels)) is not None:
        schemes.append(scheme)
    else:
        raise config.refuse(key, target, "or its options have no counterpart in the volume engine")


def _turn(sizes: Any) -> tuple[float, float, float] | None:
    """Millimetres along Z, Y and X from those along X, Y and Z; NaN along axes of any size."""
    if not isinstance(sizes, list) or len(sizes) != 3:
        return None
    x, y, z = (math.nan if size is None or size <= 0 else float(size) for size in sizes)
    return z, y, x


def _read_normalization(name: str, read: Any, channels: int) -> dict[str, Any] | None:
    """Scheme of a transform of intensities; None for any other transform, and for options without a scheme."""
    each = channels == 1 or read("channel_wise", False) is True
    if name == "NormalizeIntensity" and each and read("subtrahend") is None and read("divisor") is None:
        nonzero = read("nonzero", False) is True
        return None if nonzero and channels > 1 else {"scheme": "zscore"} | ({"nonzero": True} if nonzero else {})
    if name == "ScaleIntensity" and each and (read("minv", 0.0), read("maxv", 1.0), read("factor")) == (0, 1, None):
        return {"scheme": "rescale"}
    clip = read("clip", False) is True
    unit = (read("b_min"), read("b_max")) == (0, 1)
    if name == "ScaleIntensityRangePercentiles" and each and unit and clip and not read("relative", False):
        return {"scheme": "percentile", "low": float(read("lower")), "high": float(read("upper"))}
    if name == "ScaleIntensityRange" and read("b_min") is not None and read("b_max") is not None:
        low, high, bottom, top = (float(read(option)) for option in ("a_min", "a_max", "b_min", "b_max"))
        if clip and high > low and top > bottom:
            std = (high - low) / (top - bottom)
            return {"scheme": "ct", "lower": low, "upper": high, "mean": low - bottom * std, "std": std}
        if not clip and low == bottom == 0 and top == 1 and high > 0:
            return {"scheme": "scale", "by": high}
    return None
