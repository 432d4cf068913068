"""Volumes on S3, from a server on this machine that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from seewhy.errors import ConfigError, DataError
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import create_sink

s3fs = pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

SHAPE = (40, 36, 44)
WHOLE = tuple(slice(0, size) for size in SHAPE)


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    settings = {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem(**settings).mkdir("bucket")
        yield {**settings, "backoff": 0.001}
    moto.stop()


def test_written_and_read_in_place(options: dict[str, Any]):
    values = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    values[:16] = 0
    path = "s3://bucket/out.zarr"
    settings = {"shape": SHAPE, "dtype": "uint8", "shard": (16, 16, 16), "chunk": (8, 8, 8), "options": options}
    sink = create_sink(path, spacing=(2, 1, 1), unit="micrometer", **settings)
    sink.write(WHOLE, values)
    sink.finish()
    assert sink.bookkeeping is None
    source = open_source(path, options=options)
    np.testing.assert_array_equal(source.read(WHOLE)[0], values)
    assert (source.spacing, source.unit) == ((2.0, 1.0, 1.0), "micrometer")
    assert not source.occupied((slice(0, 8), slice(0, 8), slice(0, 8)))
    assert source.occupied((slice(16, 24), slice(0, 8), slice(0, 8)))
    assert open_source(path, level=1, options=options).shape == (1, 20, 18, 22)
    with pytest.raises(ConfigError, match="already holds a result"):
        create_sink(path, **settings)
    create_sink(path, overwrite=True, **settings)
    assert not open_source(path, options=options).read(WHOLE).any()
    for missing in ("s3://bucket/none.zarr", "s3://nobucket/none.zarr"):
        with pytest.raises(DataError, match="holds no zarr array or group"):
            open_source(missing, options=options)
