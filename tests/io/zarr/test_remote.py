"""Volumes over HTTP from a server that fails one request in ten: the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from flaky_server import serving

from seewhy.errors import DataError
from seewhy.io.zarr.opening import open_source

pytest.importorskip("aiohttp")

WHOLE = (slice(0, 60), slice(0, 50), slice(0, 40))
PATIENT = {"backoff": 0.001}


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 255, (60, 50, 40)).astype(np.uint8)
    values[:20] = 0
    return values


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("ranges", [True, False])
def test_same_bytes_and_the_same_empty_chunks(tmp_path: Path, values: np.ndarray, form: int, ranges: bool):
    shards = {"shards": (20, 20, 20)} if form == 3 else {}
    zarr.create_array(str(tmp_path / "a.zarr"), data=values, chunks=(10, 10, 10), zarr_format=form, **shards)
    with serving(tmp_path, ranges=ranges) as server:
        source = open_source(f"{server.address}/a.zarr", options=PATIENT)
        np.testing.assert_array_equal(source.read(WHOLE)[0], values)
        boxes = [(slice(z, z + 10), slice(0, 10), slice(30, 40)) for z in range(0, 60, 10)]
        local = open_source(tmp_path / "a.zarr")
        assert [source.occupied(box) for box in boxes] == [local.occupied(box) for box in boxes]
        assert server.failures >= 3
        assert source.counters.retries >= 1  # aiohttp itself asks again after a lost connection
        assert "mtime_ns" not in source.identity()


def test_whole_files_are_copied(tmp_path: Path, values: np.ndarray):
    np.save(tmp_path / "a.npy", values)
    with serving(tmp_path, every=2) as server:
        for _ in range(3):
            source = open_source(f"{server.address}/a.npy", options=PATIENT)
            np.testing.assert_array_equal(source.read(WHOLE)[0], values)
        with pytest.raises(DataError, match="does not exist"):
            open_source(f"{server.address}/b.npy", options=PATIENT)


def test_a_server_that_never_answers_is_said(tmp_path: Path, values: np.ndarray):
    zarr.create_array(str(tmp_path / "a.zarr"), data=values, chunks=(10, 10, 10))
    with serving(tmp_path, every=0) as server:
        source = open_source(f"{server.address}/a.zarr", options={"retries": 2, **PATIENT})
        server.every = 1
        with pytest.raises(DataError, match=r"chunk \d\.\d\.\d cannot be read after all retries") as caught:
            source.read(WHOLE)
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match="cannot be opened as zarr"):
            open_source(f"{server.address}/a.zarr", options={"retries": 1, **PATIENT})
    with pytest.raises(DataError, match="holds no zarr array"), serving(tmp_path, every=0) as server:
        open_source(f"{server.address}/b.zarr", options=PATIENT)


def test_schemes_we_do_not_know():
    with pytest.raises(DataError, match=r"cannot be opened through fsspec|pip install"):
        open_source("nosuch://host/a.zarr")
