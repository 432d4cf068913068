"""Open the volume of a prediction and compare it with what the model was trained for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy.data.dataset_info import read_info
from seewhy.errors import ConfigError
from seewhy.io.geometry import SAME_SPACING, format_mm, spacing_difference
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.source import Box, VolumeSource, millimetres
from seewhy.io.zarr.store import local_folder
from seewhy.run.build import to_plain_data
from seewhy.run.volumes.model import VolumeModel

__all__ = ["check_input", "is_phantom", "open_input", "read_roi"]


def open_input(volume: DictConfig, *, writes: bool = True) -> VolumeSource:
    """Open `volume.input`.

    Args:
        volume: the options `volume`.
        writes: whether `volume.output` will be written and must be given.

    Raises:
        ConfigError: an option is missing, or no such level or channel.
        DataError: the volume cannot be read.
    """
    if volume.input is None or (volume.output is None and writes):
        missing = "volume.input" if volume.input is None else "volume.output"
        raise ConfigError(f"{missing} must be given, e.g. {missing}=scan.zarr")
    return _open(volume, volume.level)


def check_input(source: VolumeSource, model: VolumeModel, volume: DictConfig) -> str | None:
    """Compare a volume with what the model was trained for.

    Returns:
        A warning about what could not be compared; None if everything matches.

    Raises:
        ConfigError: another number of channels, or another voxel size with `volume.inference.spacing=check`.
    """
    if model.channels is not None and model.channels != source.shape[0]:
        raise ConfigError(
            f"{source.path} has {source.shape[0]} channels, the model takes {model.channels}; "
            "choose them with volume.channels=[…]"
        )
    check = volume.inference.spacing
    if check not in ("check", "ignore"):
        raise ConfigError(f"volume.inference.spacing={check!r}; expected check or ignore")
    if check == "ignore" or model.spacing is None:
        return None
    spacing = millimetres(source)
    if spacing is None:
        return f"{source.path} does not state its voxel size; the model was trained at {format_mm(model.spacing)}"
    if spacing_difference(spacing, model.spacing) > SAME_SPACING:
        raise ConfigError(
            f"{source.path} has voxels of {format_mm(spacing)}, the model was trained at {format_mm(model.spacing)}"
            f"{_suggest_level(source, model.spacing, volume)}; resample it, or predict at this voxel size with "
            "volume.inference.spacing=ignore"
        )
    return None


def is_phantom(path: str) -> bool:
    """Whether a volume belongs to a synthetic data set, according to `dataset.json` above its folder."""
    folder = local_folder(path)
    if folder is None:
        return False
    return bool(read_info(folder.resolve().parent.parent / "dataset.json").get("phantom", False))


def read_roi(volume: DictConfig) -> Box | None:
    """The box of `volume.roi`.

    Raises:
        ConfigError: not six numbers in rising pairs.
    """
    if volume.roi is None:
        return None
    edges = to_plain_data(volume.roi)
    valid = isinstance(edges, list) and len(edges) == 6 and all(type(edge) is int and edge >= 0 for edge in edges)
    if not valid or any(low >= high for low, high in zip(edges[::2], edges[1::2], strict=True)):
        raise ConfigError(f"volume.roi={edges}; expected [z0,z1,y0,y1,x0,x1] in voxels, each pair rising")
    return slice(*edges[:2]), slice(*edges[2:4]), slice(*edges[4:])


def _open(volume: DictConfig, level: int | str | None) -> VolumeSource:
    """Open `volume.input` at a level, with its channels and the options of its store."""
    options: Any = OmegaConf.to_container(volume.storage_options, resolve=True)
    return open_source(volume.input, level=level, channels=to_plain_data(volume.channels), options=options)


def _suggest_level(source: VolumeSource, wanted: Sequence[float], volume: DictConfig) -> str:
    """Suggest a level of the pyramid with the wanted voxel size, if there is one."""
    if source.level is None:
        return ""
    position = 0
    while True:
        try:
            other = _open(volume, position)
        except ConfigError:
            return ""
        spacing = millimetres(other)
        if spacing and spacing_difference(spacing, wanted) <= SAME_SPACING:
            return f"; volume.level={other.level} has voxels of {format_mm(spacing)}"
        position += 1
