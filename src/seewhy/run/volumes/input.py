"""The volume of a prediction, and whether the model was trained for its voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy.data.dataset_info import read_info
from seewhy.errors import ConfigError
from seewhy.io.zarr.opening import VolumeSource, open_source
from seewhy.io.zarr.source import Box, millimetres
from seewhy.io.zarr.store import local_folder
from seewhy.run.volumes.model import VolumeModel

__all__ = ["check_input", "is_phantom", "open_input", "region"]

TOLERANCE = 0.1
"""Share by which voxel sizes may differ before a prediction is refused."""


def open_input(volume: DictConfig, *, writes: bool = True) -> VolumeSource:
    """Open `volume.input`.

    Args:
        volume: the options.
        writes: whether `volume.output` will be written, and must be given.

    Raises:
        ConfigError: not given, or no such level or channel.
        DataError: it cannot be read.
    """
    if volume.input is None or (volume.output is None and writes):
        missing = "volume.input" if volume.input is None else "volume.output"
        raise ConfigError(f"{missing} must be given, e.g. {missing}=scan.zarr")
    return _opened(volume, volume.level)


def check_input(source: VolumeSource, model: VolumeModel, volume: DictConfig) -> str | None:
    """Compare a volume with what the model was trained for.

    Returns:
        What could not be compared, for the user; None where all fits.

    Raises:
        ConfigError: another number of channels, or voxels of another size than `volume.spacing=check` allows.
    """
    if model.channels is not None and model.channels != source.shape[0]:
        raise ConfigError(
            f"{source.path} has {source.shape[0]} channels, the model takes {model.channels}; "
            "choose them with volume.channels=[…]"
        )
    if volume.spacing not in ("check", "ignore"):
        raise ConfigError(f"volume.spacing={volume.spacing!r}; expected check or ignore")
    if volume.spacing == "ignore" or model.spacing is None:
        return None
    found = millimetres(source)
    if found is None:
        return f"{source.path} says nothing of its voxels' size; the model was trained at {_mm(model.spacing)}"
    if _apart(found, model.spacing) > TOLERANCE:
        raise ConfigError(
            f"{source.path} has voxels of {_mm(found)}, the model was trained at {_mm(model.spacing)}"
            f"{_other_level(source, model.spacing, volume)}; resample it, or predict at this size with "
            "volume.spacing=ignore"
        )
    return None


def is_phantom(path: str) -> bool:
    """Whether a volume is one of a synthetic data set, as the `dataset.json` of its folder's parent says."""
    folder = local_folder(path)
    if folder is None:
        return False
    return bool(read_info(folder.resolve().parent.parent / "dataset.json").get("phantom", False))


def region(volume: DictConfig) -> Box | None:
    """The box of `volume.roi`.

    Raises:
        ConfigError: not six rising numbers.
    """
    if volume.roi is None:
        return None
    edges: Any = list(volume.roi) if OmegaConf.is_list(volume.roi) else volume.roi
    whole = isinstance(edges, list) and len(edges) == 6 and all(type(edge) is int and edge >= 0 for edge in edges)
    if not whole or any(low >= high for low, high in zip(edges[::2], edges[1::2], strict=True)):
        raise ConfigError(f"volume.roi={edges}; expected [z0,z1,y0,y1,x0,x1] in voxels, each pair rising")
    return slice(*edges[:2]), slice(*edges[2:4]), slice(*edges[4:])


def _opened(volume: DictConfig, level: int | str | None) -> VolumeSource:
    """`volume.input` at a level, with its channels and through its store's options."""
    options: Any = OmegaConf.to_container(volume.storage_options, resolve=True)
    channels = list(volume.channels) if OmegaConf.is_list(volume.channels) else volume.channels
    return open_source(volume.input, level=level, channels=channels, options=options)


def _other_level(source: VolumeSource, wanted: Sequence[float], volume: DictConfig) -> str:
    """Name the level of a pyramid that is nearest to a voxel size, if it is near enough."""
    if source.level is None:
        return ""
    position = 0
    while True:
        try:
            other = _opened(volume, position)
        except ConfigError:
            return ""
        found = millimetres(other)
        if found and _apart(found, wanted) <= TOLERANCE:
            return f"; volume.level={other.level} has voxels of {_mm(found)}"
        position += 1


def _apart(found: Sequence[float], wanted: Sequence[float]) -> float:
    """By what share two sizes of voxels differ at most; an axis that is wanted at any size (NaN) does not count."""
    return max(abs(own / size - 1) for own, size in zip(found, wanted, strict=True) if not math.isnan(size))


def _mm(spacing: Sequence[float]) -> str:
    return " × ".join("any" if math.isnan(size) else f"{size:.3g}" for size in spacing) + " mm"  # noqa: RUF001
