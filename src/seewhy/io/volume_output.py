"""Groups, arrays and metadata of an output store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from seewhy.io.ome import image_label, multiscales, ome_attributes
from seewhy.io.volume_layout import MARK, VolumeLayout
from seewhy.io.volume_store import CountedStore

__all__ = ["create_level", "describe", "fill"]


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
