"""Where a prediction of a volume is stored, and what is written beside the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seewhy.errors import ConfigError
from seewhy.io.zarr.opening import VolumeSource
from seewhy.io.zarr.sink import VolumeSink, plan_sink
from seewhy.io.zarr.store import is_remote
from seewhy.run.volumes.input import is_phantom
from seewhy.run.volumes.model import VolumeModel
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan
from seewhy.volumes.stored_logits import LogitStore

__all__ = ["describe_output", "keep_logits", "make_sink", "plain", "shard_of"]

SMALL_SHARD, LARGE_SHARD, LARGE_VOLUME = 128, 256, 2e9
"""Edges of shards, and the voxels from which on a volume gets the large ones."""


def describe_output(volume: DictConfig, source: VolumeSource, model: VolumeModel) -> dict[str, Any]:
    """What an output says of itself besides its values' meaning, as plain data: the grid of the level that is read.

    Args:
        volume: the options.
        source: the input.
        model: the networks.
    """
    return {
        "chunk": [int(size) for size in volume.chunk],
        "zarr_format": int(volume.zarr_format),
        "spacing": None if source.spacing is None else list(source.spacing),
        "translation": None if source.translation is None else list(source.translation),
        "unit": source.unit,
        "name": volume.name,
        "classes": {str(value): name for value, name in (model.classes or {}).items()},
        "attributes": {
            "model": model.name,
            "weights_sha256": model.sha256,
            "input": source.path,
            "level": source.level,
            "phantom": is_phantom(source.path),
            "affine": None if source.affine is None else source.affine.tolist(),
        },
    }


def make_sink(
    path: str,
    head: OutputFormat,
    plan: Plan,
    description: Mapping[str, Any],
    *,
    options: Mapping[str, Any] | None = None,
) -> VolumeSink:
    """The output for what a head makes, not yet created.

    Args:
        path: of the store.
        head: says type, channels and scale.
        plan: says the shards.
        description: of `describe_output`.
        options: of the store.
    """
    classes = {int(value): name for value, name in description["classes"].items()}
    meaning = {
        "mode": head.mode,
        "stored": head.stored,
        "scale": head.scale,  # what probability 1 is stored as
        "classes": description["classes"],
        "channels": head.names(classes) if head.planes is not None else None,
    }
    return plan_sink(
        path,
        **{
            **description,
            "shape": head.shape(plan.costs.grid.shape),
            "dtype": head.dtype,
            "shard": plan.costs.shard,
            "attributes": {**meaning, **description["attributes"]},
            "labels": head.labels,
            "classes": classes if head.labels else None,
            "options": options,
        },
    )


def keep_logits(volume: DictConfig, plan: Plan, description: Mapping[str, Any]) -> LogitStore:
    """The store of the logits of all patches, made or opened.

    Raises:
        ConfigError: a remote output, or something else is there.
    """
    if is_remote(volume.output):
        raise ConfigError(f"volume.keep_logits=true needs a local volume.output; {volume.output} is none")
    if volume.overwrite:
        raise ConfigError(
            "volume.overwrite is for results; remove the logits yourself, or choose another volume.output"
        )
    facts = {**description, "head": plan.costs.head.settings(), "shard": list(plan.costs.shard)}
    return LogitStore.create(volume.output, grid=plan.costs.grid, channels=plan.costs.head.channels, facts=facts)


def shard_of(shape: Sequence[int], volume: DictConfig) -> tuple[int, int, int]:
    """Edges of a shard: as asked for, or by the volume's size; no larger than the volume in whole chunks."""
    chunk = [int(size) for size in volume.chunk]
    z, y, x = shape
    usual = LARGE_SHARD if z * y * x > LARGE_VOLUME else SMALL_SHARD
    asked = volume.shard if volume.shard is not None else [-(-usual // max(size, 1)) * size for size in chunk]
    if len(chunk) != 3 or len(asked) != 3:
        raise ConfigError(f"volume.chunk={chunk} and volume.shard={list(asked)}; expected voxels of Z, Y and X")
    if min(int(size) for size in (*chunk, *asked)) < 1:
        raise ConfigError(
            f"volume.chunk={chunk} and volume.shard={list(asked)} must be 1 voxel or more along each axis"
        )
    first, second, third = (
        min(int(edge), -(-length // size) * size) for edge, length, size in zip(asked, shape, chunk, strict=True)
    )
    return first, second, third


def plain(node: Any) -> Any:
    """A configuration node as plain data."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
