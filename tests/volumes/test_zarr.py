"""From zarr to zarr, with the real stores."""

import os
import threading

import numpy as np
import pytest
import zarr

from seewhy.errors import DataError
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import create_sink


@pytest.fixture
def stored(tmp_path):
    """Noise in chunks of 16³, of which a corner was never written."""
    values = (1000 * np.random.default_rng(0).random((64, 48, 48))).astype(np.uint16)
    values[:32, :16] = 0
    array = zarr.create_array(tmp_path / "in.zarr", shape=values.shape, dtype="uint16", chunks=(16, 16, 16))
    array[:] = values
    return values


def job_of(make_job, folder, *, name="out.zarr", output_format=None, **choices):
    source = open_source(str(folder / "in.zarr"))
    output_format = output_format or {"mode": "binary", "channels": 2}
    job = make_job(
        volume=None, source=source, sink=0, shard=(16, 32, 32), skip_empty=True, output_format=output_format, **choices
    )
    job.schemes = ({"scheme": "scale", "by": 1000},)
    job.sink = create_sink(
        folder / name,
        shape=job.classes.shape(job.grid.shape),
        dtype=job.classes.dtype,
        shard=(16, 32, 32),
        chunk=(16, 16, 16),
        labels=job.classes.labels,
        exist_ok=True,
    )
    job.folder = job.sink.bookkeeping
    return job


@pytest.mark.parametrize(
    "output_format",
    [
        {"mode": "binary", "channels": 2, "stored": "uint16"},
        {"mode": "multiclass", "channels": 2},
        {"mode": "threshold", "channels": 2},
    ],
)
def test_the_store_holds_what_memory_would(make_job, stored, tmp_path, output_format):
    job = job_of(make_job, tmp_path, output_format=output_format)
    engine = job.engine()
    engine.run(job.predictor())
    assert engine.finish()
    expected = make_job(
        volume=stored[None], schemes=job.schemes, shard=(16, 32, 32), skip_empty=True, output_format=output_format
    ).run()
    assert np.array_equal(result(job), expected)


def test_chunks_are_read_once_and_bytes_counted(make_job, stored, tmp_path):
    job = job_of(make_job, tmp_path)
    progress = job.engine().run(job.predictor())
    chunks = [path for path in (tmp_path / "in.zarr" / "c").rglob("*") if path.is_file()]
    assert progress.skipped > 0
    assert len(chunks) < 4 * 3 * 3
    size = sum(path.stat().st_size for path in chunks)
    assert progress.counters.bytes_read <= 1.3 * size
    assert job.sink.counters.bytes_written <= 1.1 * job.grid.shape[0] * job.grid.shape[1] * job.grid.shape[2]


def test_a_truncated_chunk_is_named_and_what_was_written_is_kept(make_job, stored, tmp_path):
    whole = job_of(make_job, tmp_path, name="whole.zarr")
    whole.engine().run(whole.predictor())
    chunk = tmp_path / "in.zarr" / "c" / "3" / "1" / "1"
    content, times = chunk.read_bytes(), chunk.stat()
    chunk.write_bytes(content[:40])
    job = job_of(make_job, tmp_path)
    with pytest.raises(DataError, match=r"in\.zarr"):
        job.engine().run(job.predictor())
    assert job.engine().ledger.coverage(job.plan).written[0].all()
    chunk.write_bytes(content)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = job_of(make_job, tmp_path)
    progress = again.engine().run(again.predictor())
    assert progress.run + progress.skipped < again.grid.count
    name = again.sink.layout.array(0)
    assert np.array_equal(
        zarr.open_array(tmp_path / "out.zarr" / name)[:], zarr.open_array(tmp_path / "whole.zarr" / name)[:]
    )
    assert threading.active_count() < 40


def test_a_store_that_takes_no_more_is_named(make_job, stored, tmp_path):
    job = job_of(make_job, tmp_path)
    folder = tmp_path / "out.zarr" / job.sink.layout.array(0)

    def predict(image):
        if job.engine().ledger.coverage(job.plan).written[0].all() and not (folder / "c.away").exists():
            (folder / "c").rename(folder / "c.away")
            (folder / "c").write_text("no folder, as a disk that has turned read-only takes none")
        return job.net(image)

    with pytest.raises(DataError, match=r"out\.zarr cannot be written"):
        job.engine().run(predict)
    (folder / "c").unlink()
    (folder / "c.away").rename(folder / "c")
    again = job_of(make_job, tmp_path)
    again.engine().run(again.predictor())
    whole = job_of(make_job, tmp_path, name="whole.zarr")
    whole.engine().run(whole.predictor())
    assert np.array_equal(result(again), result(whole))


def result(job):
    return zarr.open_array(f"{job.sink.path}/{job.sink.layout.array(0)}")[:]
