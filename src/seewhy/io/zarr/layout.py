"""Layout of an output store: shapes, chunks, pyramid levels and metadata, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from seewhy.errors import ConfigError
from seewhy.io.zarr.ome import Level

__all__ = ["MARK", "VolumeLayout", "positive_triple"]

MARK = "seewhy"
"""Attribute of the root group that marks outputs of seewhy."""


@dataclass(frozen=True)
class VolumeLayout:
    """Everything that determines where a voxel of an output is stored.

    Attributes:
        shape: (Z, Y, X), or (K, Z, Y, X) with channels.
        dtype: name of the stored type.
        shard: (Z, Y, X) of one write, which has one owner; one object per channel in zarr v3.
        chunk: (Z, Y, X) that a reader decompresses; must divide `shard`.
        zarr_format: 3, or 2 (where each chunk of a shard is a separate object).
        spacing: along Z, Y and X; None counts as 1.
        translation: position of the first voxel; None counts as 0.
        unit: of the spacing.
        labels: integers under `labels/<name>` with image-label metadata, instead of an image in the root.
        name: of the image or the labels.
        fill_value: value of voxels that are never written.
        classes: names of the labels by value.
    """

    shape: tuple[int, ...]
    dtype: str
    shard: tuple[int, int, int]
    chunk: tuple[int, int, int]
    zarr_format: int = 3
    spacing: tuple[float, float, float] | None = None
    translation: tuple[float, float, float] | None = None
    unit: str | None = None
    labels: bool = False
    name: str = "prediction"
    fill_value: float = 0
    classes: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the layout can be stored."""
        if len(self.shape) not in (3, 4) or min(self.shape) < 1:
            raise ConfigError(f"output of shape {self.shape}; expected (Z, Y, X) or (K, Z, Y, X)")
        if self.zarr_format not in (2, 3):
            raise ConfigError(f"volume.store.zarr_format={self.zarr_format}; expected 2 or 3")
        for axis, shard, chunk in zip("ZYX", self.shard, self.chunk, strict=True):
            if chunk < 1 or shard % chunk:
                raise ConfigError(f"shard {self.shard} along {axis} is not a multiple of chunk {self.chunk}")
        if self.labels and (np.dtype(self.dtype).kind not in "bui" or len(self.shape) == 4):
            raise ConfigError(f"labels of type {self.dtype} and shape {self.shape}; expected integers (Z, Y, X)")

    @property
    def group(self) -> str:
        """Path of the pyramid's group inside the store; empty for the root."""
        return f"labels/{self.name}" if self.labels else ""

    @property
    def space(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        z, y, x = self.shape[-3:]
        return z, y, x

    def array(self, level: int) -> str:
        """Path of a level's array inside the store."""
        return f"{self.group}/{level}".lstrip("/")

    def level_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of all levels: halved along each axis, rounded up, until a level fits into one chunk."""
        shapes = [self.shape]
        while any(size > chunk for size, chunk in zip(shapes[-1][-3:], self.chunk, strict=True)):
            space = tuple(-(-size // 2) for size in shapes[-1][-3:])
            shapes.append((*self.shape[:-3], *space))
        return shapes

    def level(self, index: int) -> Level:
        """Metadata of a level: the centre of a coarse voxel is the mean of the centres that it summarizes."""
        spacing, first = self.spacing or (1.0,) * 3, self.translation or (0.0,) * 3
        shapes = self.level_shapes()[: index + 1]
        scale, shift = [], []
        for axis in range(3):
            # An axis of one voxel is not halved again.
            halvings = sum(1 for shape in shapes[:-1] if shape[-3:][axis] > 1)
            scale.append(spacing[axis] * 2**halvings)
            shift.append(first[axis] + spacing[axis] * (2**halvings - 1) / 2)
        front = [1.0] * (len(self.shape) - 3)
        return Level(str(index), (*front, *scale), (*(0.0 for _ in front), *shift))

    def record(self) -> dict[str, Any]:
        """Plain data from which `from_record` restores the layout."""
        record = asdict(self)
        record["classes"] = {str(value): name for value, name in self.classes.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> VolumeLayout:
        """Restore a layout from a store's attributes."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        values["classes"] = {int(value): name for value, name in record.get("classes", {}).items()}
        return cls(**values)

    def differences(self, other: VolumeLayout) -> list[str]:
        """Attributes in which another layout differs, with both values."""
        mine, theirs = self.record(), other.record()
        return [f"{key} ({theirs[key]} in the store, {mine[key]} now)" for key in mine if mine[key] != theirs[key]]


def positive_triple(values: Sequence[int], name: str) -> tuple[int, int, int]:
    """Convert to three positive whole numbers along Z, Y and X.

    Raises:
        ConfigError: another count, or a number below 1.
    """
    numbers = tuple(int(value) for value in values)
    if len(numbers) != 3 or min(numbers) < 1:
        raise ConfigError(f"{name}={list(values)}; expected three positive numbers of voxels along Z, Y and X")
    z, y, x = numbers
    return z, y, x
