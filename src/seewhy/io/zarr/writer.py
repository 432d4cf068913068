"""Create an output store, its metadata and its pyramid of coarser levels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.zarr.layout import MARK, VolumeLayout
from seewhy.io.zarr.ome import image_label, multiscales, ome_attributes
from seewhy.io.zarr.store import CountedStore

__all__ = [
    "build_pyramid",
    "build_shard",
    "create_level",
    "halve_by_mean",
    "halve_by_mode",
    "initialize_store",
    "write_metadata",
]


def initialize_store(
    store: CountedStore, layout: VolumeLayout, attributes: Mapping[str, Any], identity: str | None
) -> None:
    """Write an empty level 0 and all metadata into a new store; the root first, so it is recognised after a kill."""
    import zarr

    form: Any = layout.zarr_format
    mark = _mark(layout, attributes, identity, finished=False)
    root = zarr.open_group(store=store, mode="a", zarr_format=form, attributes={MARK: mark})
    if MARK not in root.attrs:  # zarr v2 stores attributes in a second object, which a kill may have prevented
        root.attrs.update({MARK: mark})
    create_level(store, layout, 0)
    write_metadata(store, layout, attributes, identity, finished=False)


def write_metadata(
    store: CountedStore, layout: VolumeLayout, attributes: Mapping[str, Any], identity: str | None, *, finished: bool
) -> None:
    """Write the attributes of all groups, for all levels of a finished pyramid, otherwise for level 0 only."""
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
    mark = _mark(layout, attributes, identity, finished=finished)
    zarr.open_group(store=store, mode="a", zarr_format=form).attrs.update({MARK: mark})


def create_level(store: CountedStore, layout: VolumeLayout, level: int, *, overwrite: bool = True) -> Any:
    """Create an empty array for one level.

    Args:
        store: of the output.
        layout: of the output.
        level: 0 is the finest.
        overwrite: replace an existing array; otherwise it is opened, also if another process has just created it.
    """
    import zarr
    from zarr.errors import ContainsArrayError

    shape = layout.level_shapes()[level]
    front = (1,) * (len(shape) - 3)
    chunk, shard = (*front, *layout.chunk), (*front, *layout.shard)
    common = {
        "store": store,
        "name": layout.array(level),
        "shape": shape,
        "dtype": layout.dtype,
        "fill_value": np.dtype(layout.dtype).type(layout.fill_value),
        "overwrite": overwrite,
    }
    try:
        return _create_array(common, layout, chunk, shard)
    except ContainsArrayError:
        return zarr.open_array(store=store, path=layout.array(level), mode="r+")


def _create_array(common: dict[str, Any], layout: VolumeLayout, chunk: tuple[int, ...], shard: tuple[int, ...]) -> Any:
    import zarr
    from zarr.codecs import BloscCodec

    if layout.zarr_format == 2:
        from numcodecs import Blosc

        separated: Any = {"name": "v2", "separator": "/"}
        return zarr.create_array(
            **common, zarr_format=2, chunks=chunk, chunk_key_encoding=separated, compressors=Blosc("zstd", 3)
        )
    names = ["c", "z", "y", "x"][-len(chunk) :]
    packing = BloscCodec(cname="zstd", clevel=3, typesize=np.dtype(layout.dtype).itemsize)
    return zarr.create_array(
        **common, zarr_format=3, chunks=chunk, shards=shard, compressors=packing, dimension_names=names
    )


def _mark(
    layout: VolumeLayout, attributes: Mapping[str, Any], identity: str | None, *, finished: bool
) -> dict[str, Any]:
    """Content of the root's attribute `seewhy`, by which an output is recognised and opened again."""
    return {"layout": layout.record(), "attributes": dict(attributes), "id": identity, "finished": finished}


def build_pyramid(reader: CountedStore, writer: CountedStore, layout: VolumeLayout) -> None:
    """Build every coarser level from the next finer one.

    Args:
        reader: store to read levels from.
        writer: the same store, for whole shards.
        layout: of the output.
    """
    import zarr

    for level in range(1, len(layout.level_shapes())):
        fine = zarr.open_array(store=reader, path=layout.array(level - 1), mode="r")
        coarse = create_level(writer, layout, level)
        spans = [range(-(-size // part)) for size, part in zip(coarse.shape[-3:], layout.shard, strict=True)]
        for index in itertools.product(*spans):
            build_shard(fine, coarse, index, layout)


def build_shard(fine: Any, coarse: Any, index: Sequence[int], layout: VolumeLayout) -> None:
    """Build one shard of a coarser level, with all its channels, from the next finer level.

    Holds one shard of one channel, and the eight times as many voxels of the finer level behind one chunk.

    Args:
        fine: array of the finer level.
        coarse: array of the coarser level.
        index: of the shard, ZYX.
        layout: of the output.
    """
    box = tuple(
        slice(i * part, min((i + 1) * part, size))
        for i, part, size in zip(index, layout.shard, coarse.shape[-3:], strict=True)
    )
    for channel in [(channel,) for channel in range(coarse.shape[0])] if coarse.ndim == 4 else [()]:
        coarse[(*channel, *box)] = _shard(fine, channel, box, layout)


def halve_by_mean(values: NDArray[Any]) -> NDArray[Any]:
    """Halve each axis by the mean of 2 × 2 × 2 voxels; an odd end is repeated, integers are rounded half up.

    Args:
        values: [z, y, x].

    Returns:
        [⌈z/2⌉, ⌈y/2⌉, ⌈x/2⌉] of the same type.

    Example:
        >>> halve_by_mean(np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
        array([[[4]]], dtype=uint8)
    """
    whole = values.dtype.kind in "bui"
    exact = np.float64 if not whole else np.int32 if values.dtype.itemsize <= 2 else np.int64
    corners = _corners(values)
    total = corners[0].astype(exact)
    for corner in corners[1:]:
        total += corner
    return ((total + 4) // 8 if whole else total / 8).astype(values.dtype)


def halve_by_mode(values: NDArray[Any]) -> NDArray[Any]:
    """Halve each axis by the most frequent label of 2 × 2 × 2 voxels; ties go to the larger label, to keep thin parts.

    Args:
        values: [z, y, x] of integers.

    Returns:
        [⌈z/2⌉, ⌈y/2⌉, ⌈x/2⌉] of the same type.
    """
    corners = np.sort(_corners(values), axis=0)
    best, most = corners[0].copy(), np.ones(corners.shape[1:], dtype=np.uint8)
    run = np.ones_like(most)
    for previous, current in itertools.pairwise(corners):
        run = np.where(current == previous, run + 1, 1).astype(np.uint8)
        better = run >= most
        best[better], most[better] = current[better], run[better]
    return best


def _shard(fine: Any, channel: tuple[int, ...], box: tuple[slice, ...], layout: VolumeLayout) -> NDArray[Any]:
    """Build one shard of the coarser level chunk by chunk."""
    halved = halve_by_mode if layout.labels else halve_by_mean
    shard = np.empty([part.stop - part.start for part in box], dtype=layout.dtype)
    parts = [range(0, size, chunk) for size, chunk in zip(shard.shape, layout.chunk, strict=True)]
    for corner in itertools.product(*parts):
        inner = tuple(
            slice(first, min(first + chunk, size))
            for first, chunk, size in zip(corner, layout.chunk, shard.shape, strict=True)
        )
        outer = tuple(
            slice(2 * (part.start + chunk.start), min(2 * (part.start + chunk.stop), size))
            for part, chunk, size in zip(box, inner, fine.shape[-3:], strict=True)
        )
        shard[inner] = halved(np.asarray(fine[(*channel, *outer)]))
    return shard


def _corners(values: NDArray[Any]) -> NDArray[Any]:
    """[8, …]: the eight voxels behind each coarse one; the last voxel is repeated if an axis is odd."""
    even = np.pad(values, [(0, size % 2) for size in values.shape], mode="edge")
    return np.stack([even[z::2, y::2, x::2] for z, y, x in itertools.product((0, 1), repeat=3)])
