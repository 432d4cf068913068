"""What an output store looks like, and telling ours from others'.

Groups, arrays and metadata of an output store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from seewhy.errors import ConfigError
from seewhy.io.zarr.ome import Level, image_label, multiscales, ome_attributes
from seewhy.io.zarr.store import CountedStore

__all__ = ["MARK", "VolumeLayout", "create_level", "describe", "fill"]

MARK = "seewhy"
"""Attribute of the root group by which we know our own outputs."""


@dataclass(frozen=True)
class VolumeLayout:
    """Everything that decides where a voxel of an output is stored.

    Attributes:
        shape: (Z, Y, X), or (K, Z, Y, X) with channels.
        dtype: name of the stored type.
        shard: (Z, Y, X) that one write covers, and one owner; one object per channel in zarr v3.
        chunk: (Z, Y, X) that a reader decompresses; divides `shard`.
        zarr_format: 3, or 2 (where the chunks of a shard are objects of their own).
        spacing: of Z, Y and X; None counts as 1.
        translation: position of the first voxel; None counts as 0.
        unit: of the spacing.
        labels: integers under `labels/<name>` with image-label metadata, instead of an image in the root.
        name: of the image or the labels.
        fill_value: value of what is never written.
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
        """Refuse what cannot be stored."""
        if len(self.shape) not in (3, 4) or min(self.shape) < 1:
            raise ConfigError(f"output of shape {self.shape}; expected (Z, Y, X) or (K, Z, Y, X)")
        if self.zarr_format not in (2, 3):
            raise ConfigError(f"volume.zarr_format={self.zarr_format}; expected 2 or 3")
        for axis, shard, chunk in zip("ZYX", self.shard, self.chunk, strict=True):
            if chunk < 1 or shard % chunk:
                raise ConfigError(f"shard {self.shard} along {axis} is no multiple of chunk {self.chunk}")
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
        """Metadata of a level: its voxels' centres are the means of those they stand for."""
        spacing, first = self.spacing or (1.0,) * 3, self.translation or (0.0,) * 3
        shapes = self.level_shapes()[: index + 1]
        scale, shift = [], []
        for axis in range(3):
            # An axis of one voxel is not halved any more.
            halvings = sum(1 for shape in shapes[:-1] if shape[-3:][axis] > 1)
            scale.append(spacing[axis] * 2**halvings)
            shift.append(first[axis] + spacing[axis] * (2**halvings - 1) / 2)
        front = [1.0] * (len(self.shape) - 3)
        return Level(str(index), (*front, *scale), (*(0.0 for _ in front), *shift))

    def record(self) -> dict[str, Any]:
        """Plain data from which `restored` makes the same layout."""
        record = asdict(self)
        record["classes"] = {str(value): name for value, name in self.classes.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}

    @classmethod
    def restored(cls, record: Mapping[str, Any]) -> VolumeLayout:
        """The layout that a store's attributes describe."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        values["classes"] = {int(value): name for value, name in record.get("classes", {}).items()}
        return cls(**values)

    def differences(self, other: VolumeLayout) -> list[str]:
        """Names of the attributes in which another layout differs."""
        mine, theirs = self.record(), other.record()
        return [f"{key} ({theirs[key]} there, {mine[key]} now)" for key in mine if mine[key] != theirs[key]]


def triple(values: Sequence[int], what: str) -> tuple[int, int, int]:
    """Three whole numbers of Z, Y and X.

    Raises:
        ConfigError: another count, or one below 1.
    """
    numbers = tuple(int(value) for value in values)
    if len(numbers) != 3 or min(numbers) < 1:
        raise ConfigError(f"{what}={list(values)}; expected three numbers of voxels for Z, Y and X")
    z, y, x = numbers
    return z, y, x


def fill(store: CountedStore, layout: VolumeLayout, attributes: Mapping[str, Any], identity: str | None) -> None:
    """Write level 0, empty, and all metadata into a new store; the root first, so that it is ours after a kill."""
    import zarr

    form: Any = layout.zarr_format
    own = _mark(layout, attributes, identity, finished=False)
    root = zarr.open_group(store=store, mode="a", zarr_format=form, attributes={MARK: own})
    if MARK not in root.attrs:  # zarr v2 keeps them in a second object, before which a kill may have come
        root.attrs.update({MARK: own})
    create_level(store, layout, 0)
    describe(store, layout, attributes, identity, finished=False)


def describe(
    store: CountedStore, layout: VolumeLayout, attributes: Mapping[str, Any], identity: str | None, *, finished: bool
) -> None:
    """Write the attributes of all groups: of all levels of a finished pyramid, else of level 0 only."""
    import zarr

    form: Any = layout.zarr_format
    entry = multiscales(
        [layout.level(index) for index in range(len(layout.level_shapes()) if finished else 1)],
        zarr_format=form,
        channels=len(layout.shape) == 4,
        unit=layout.unit,
        name=layout.name,
        method="mode" if layout.labels else "mean",
    )
    content: dict[str, Any] = {"multiscales": entry}
    if layout.labels:
        content["image-label"] = image_label(layout.classes, zarr_format=form)
        zarr.open_group(store=store, path="labels", mode="a", zarr_format=form).attrs.update(
            ome_attributes({"labels": [layout.name]}, zarr_format=form)
        )
    group = zarr.open_group(store=store, path=layout.group, mode="a", zarr_format=form)
    group.attrs.update(ome_attributes(content, zarr_format=form))
    own = _mark(layout, attributes, identity, finished=finished)
    zarr.open_group(store=store, mode="a", zarr_format=form).attrs.update({MARK: own})


def create_level(store: CountedStore, layout: VolumeLayout, level: int) -> Any:
    """Make the array of one level, empty; one that is there is replaced."""
    import zarr
    from zarr.codecs import BloscCodec

    shape = layout.level_shapes()[level]
    front = (1,) * (len(shape) - 3)
    chunk, shard = (*front, *layout.chunk), (*front, *layout.shard)
    common = {
        "store": store,
        "name": layout.array(level),
        "shape": shape,
        "dtype": layout.dtype,
        "fill_value": np.dtype(layout.dtype).type(layout.fill_value),
        "overwrite": True,
    }
    if layout.zarr_format == 2:
        from numcodecs import Blosc

        separated: Any = {"name": "v2", "separator": "/"}
        return zarr.create_array(
            **common, zarr_format=2, chunks=chunk, chunk_key_encoding=separated, compressors=Blosc("zstd", 3)
        )
    names = ["c", "z", "y", "x"][-len(shape) :]
    packing = BloscCodec(cname="zstd", clevel=3, typesize=np.dtype(layout.dtype).itemsize)
    return zarr.create_array(
        **common, zarr_format=3, chunks=chunk, shards=shard, compressors=packing, dimension_names=names
    )


def _mark(
    layout: VolumeLayout, attributes: Mapping[str, Any], identity: str | None, *, finished: bool
) -> dict[str, Any]:
    """What the root says of the store for ourselves."""
    return {"layout": layout.record(), "attributes": dict(attributes), "id": identity, "finished": finished}
