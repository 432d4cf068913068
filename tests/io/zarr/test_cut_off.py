"""Outputs in object stores, whose making or removing is cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seewhy.errors import DataError
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import create_sink
from seewhy.io.zarr.store import CountedStore

pytest.importorskip("fsspec")
WHOLE = (slice(0, 16), slice(0, 16), slice(0, 16))


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_cut_off_outputs_are_ours(labels: bool, zarr_format: int, monkeypatch: pytest.MonkeyPatch):
    """Making and removing can stop after every call to the store and be started again; nothing old is left."""
    path, ones = f"memory://bucket/cut-{labels}-{zarr_format}.zarr", np.ones((16, 16, 16), np.uint8)
    settings: dict[str, Any] = {"shape": (16, 16, 16), "dtype": "uint8", "shard": (16, 16, 16), "chunk": (8, 8, 8)}
    settings |= {"labels": labels, "zarr_format": zarr_format}
    allowed = 0

    def limited(name: str):
        call, left = getattr(CountedStore, name), [allowed]

        async def counted(self, *arguments: Any):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("killed")
            return await call(self, *arguments)

        return counted

    def cut_off(names: tuple[str, ...], **how: Any) -> bool:
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(CountedStore, name, limited(name))
            try:
                create_sink(path, **how, **settings)
            except (RuntimeError, DataError):
                return True
        return False

    while cut_off(("set",), exist_ok=True):
        allowed += 1
    assert allowed > 2
    sink = create_sink(path, exist_ok=True, **settings)
    allowed = 0
    while True:
        sink.write(WHOLE, ones)
        sink.finish()
        if not cut_off(("delete", "delete_dir"), overwrite=True):
            break
        sink = create_sink(path, overwrite=True, **settings)
        assert not open_source(sink.image, level=0).read(WHOLE).any()
        allowed += 1
    assert allowed > 1
