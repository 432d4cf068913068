"""Coarser levels: built from parts, by whoever is free, with the bytes of one process."""

import numpy as np
import pytest

from seewhy.io.zarr.sink import create_sink
from seewhy.sharing.tasks import SharedTasks
from seewhy.sharing.workers import Workers
from seewhy.volumes.engine.coverage import CoarseLevels, Coverage, list_parts
from seewhy.volumes.geometry import box_of

SHAPE, SHARD = (100, 36, 70), (16, 16, 32)


def make_store(folder, form, values):
    return create_sink(
        folder / "out.zarr", shape=values.shape, dtype="uint8", shard=SHARD, chunk=(16, 16, 16), zarr_format=form
    )


def write(sink, values, rows):
    box = (slice(*rows), slice(0, SHAPE[1]), slice(0, SHAPE[2]))
    sink.write(box, values[(..., *box)])
    return box


def read_files(sink):
    """Path → bytes of everything but the store's identity and notes."""
    root = sink.bookkeeping.parent
    return {
        str(path.relative_to(root)): path.read_bytes().replace(sink.identity.encode(), b"")
        for path in root.rglob("*")
        if path.is_file() and ".seewhy" not in path.parts
    }


@pytest.fixture(params=[(3, None), (2, None), (3, 2)])
def stores(request, tmp_path):
    """Values, a store that one process finished, and an empty one."""
    form, channels = request.param
    shape = SHAPE if channels is None else (channels, *SHAPE)
    values = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    values[..., 48:80, :, :] = 0  # shards that are not stored
    whole = make_store(tmp_path / "whole", form, values)
    write(whole, values, (0, SHAPE[0]))
    whole.finish()
    return values, whole, make_store(tmp_path / "parts", form, values)


def open_levels(sink, region):
    workers = Workers(sink.bookkeeping)
    workers.join()
    return CoarseLevels(sink, SharedTasks(sink.bookkeeping, workers, kind="levels"), region=region), workers


def test_parts_are_built_as_soon_as_their_shards_are_written_and_give_the_same_bytes(stores):
    values, whole, sink = stores
    region = box_of((0, 0, 0), SHAPE)
    first, second = open_levels(sink, region), open_levels(sink, region)
    coverage, built = Coverage(shape=SHAPE, shard=SHARD), []
    for start in range(0, SHAPE[0], 16):
        coverage.add(write(sink, values, (start, min(start + 16, SHAPE[0]))))
        built += [(first, second)[turn % 2][0].build_next(coverage) for turn in range(4)]
    assert sum(built) > 4
    assert not all(built)
    third = open_levels(sink, region)
    third[0].build_all(coverage)
    assert not first[0].build_next(coverage)
    sink.seal()
    for levels, workers in (first, second, third):
        levels.close()
        workers.leave()
    assert read_files(sink) == read_files(whole)


def test_a_larger_region_rebuilds_what_it_changes_only(stores, monkeypatch):
    values, whole, sink = stores
    built = []
    build = type(sink).build_part
    monkeypatch.setattr(type(sink), "build_part", lambda sink, *part: (built.append(part), build(sink, *part)))
    coverage = Coverage(shape=SHAPE, shard=SHARD)
    for rows in ((0, 32), (32, 64), (64, 100)):
        built.clear()
        region = write(sink, values, rows)
        coverage.add(region)
        levels, workers = open_levels(sink, region)
        levels.build_all(coverage)
        sink.seal()
        workers.leave()
        touched = {index[0] for level, index in built if level == 1}
        assert touched == set(range(rows[0] // 32, -(-rows[1] // 32)))
    assert read_files(sink) == read_files(whole)


def test_all_parts_are_listed_finer_ones_first():
    shapes = [(4, 2, 2), (2, 1, 1), (1, 1, 1)]
    parts = list(list_parts((7, 3, 3), 3))
    assert [sum(level == n + 1 for level, _ in parts) for n in range(3)] == [int(np.prod(shape)) for shape in shapes]
    assert [level for level, _ in parts] == sorted(level for level, _ in parts)
