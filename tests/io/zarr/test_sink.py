from __future__ import annotations

import json
import multiprocessing
import pickle
import resource
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr

from seewhy.errors import ConfigError, DataError
from seewhy.io.zarr.mapped import ArraySource
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import create_sink, open_sink, write_part
from seewhy.io.zarr.writer import halve_by_mean, halve_by_mode

SHAPE = (100, 70, 90)
SETTINGS = {"dtype": "uint8", "shard": (64, 64, 64), "chunk": (32, 32, 32)}


def boxes(shape: tuple[int, ...], shard: tuple[int, ...]) -> list[tuple[slice, slice, slice]]:
    parts = [[slice(i, min(i + s, n)) for i in range(0, n, s)] for n, s in zip(shape[-3:], shard, strict=True)]
    return [(z, y, x) for z in parts[0] for y in parts[1] for x in parts[2]]


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("channels", [None, 3])
def test_written_read_and_described(tmp_path: Path, form: int, channels: int | None):
    shape = SHAPE if channels is None else (channels, *SHAPE)
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    sink = create_sink(
        tmp_path / "o.zarr",
        shape=shape,
        zarr_format=form,
        spacing=(2, 1, 0.5),
        translation=(10, 0, 0),
        unit="micrometer",
        attributes={"scale": 255},
        **SETTINGS,
    )
    for box in boxes(SHAPE, sink.shard):
        sink.write(box, values[(..., *box)])
    once = sink.counters.record()
    sink.finish()
    source = open_source(sink.image)
    whole = source.read(tuple(slice(0, n) for n in SHAPE))
    np.testing.assert_array_equal(whole, values.reshape(-1, *SHAPE))
    assert (source.spacing, source.translation, source.unit) == ((2.0, 1.0, 0.5), (10.0, 0.0, 0.0), "micrometer")
    half = open_source(sink.image, level=1)
    assert (half.shape[1:], half.spacing, half.translation) == ((50, 35, 45), (4.0, 2.0, 1.0), (11.0, 0.5, 0.25))
    expected = [halve_by_mean(channel) for channel in values.reshape(-1, *SHAPE)]
    np.testing.assert_array_equal(half.read((slice(0, 50), slice(0, 35), slice(0, 45))), expected)
    # Nothing of what was written is read back, and each object is put once.
    shards = len(boxes(SHAPE, sink.shard)) * (channels or 1)
    chunks = len(boxes(SHAPE, sink.chunk)) * (channels or 1)
    assert once["writes"] == (shards if form == 3 else chunks)
    assert once["bytes_read"] < 3000
    check_metadata(tmp_path / "o.zarr", form, channels is not None)


def check_metadata(path: Path, form: int, channels: bool) -> None:
    if form == 3:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
        home, array = attributes["ome"], json.loads((path / "0" / "zarr.json").read_text())
        assert home["version"] == "0.5"
        assert array["dimension_names"] == (["c"] if channels else []) + ["z", "y", "x"]
        assert array["codecs"][0]["name"] == "sharding_indexed"
    else:
        attributes = json.loads((path / ".zattrs").read_text())
        home = attributes
        assert home["multiscales"][0]["version"] == "0.4"
        assert json.loads((path / "0" / ".zarray").read_text())["dimension_separator"] == "/"
    [entry] = home["multiscales"]
    spaces = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    assert entry["axes"] == ([{"name": "c", "type": "channel"}] if channels else []) + spaces
    assert [dataset["path"] for dataset in entry["datasets"]] == ["0", "1", "2"]
    assert attributes["seewhy"]["finished"] is True
    assert attributes["seewhy"]["attributes"] == {"scale": 255}


@pytest.mark.parametrize("form", [2, 3])
def test_labels(tmp_path: Path, form: int):
    values = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    classes = {0: "background", 1: "vessel", 2: "lumen"}
    sink = create_sink(
        tmp_path / "o.zarr", shape=SHAPE, labels=True, name="tissue", classes=classes, zarr_format=form, **SETTINGS
    )
    for box in boxes(SHAPE, sink.shard):
        sink.write(box, values[box])
    sink.finish()
    assert sink.image.endswith("o.zarr/labels/tissue")
    half = open_source(sink.image, level=1).read((slice(0, 50), slice(0, 35), slice(0, 45)))
    np.testing.assert_array_equal(half[0], halve_by_mode(values))
    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="r")
    place = lambda node: node.attrs["ome"] if form == 3 else node.attrs  # noqa: E731
    assert place(group["labels"])["labels"] == ["tissue"]
    label = place(group["labels/tissue"])["image-label"]
    assert label["properties"] == [{"label-value": v, "class": name} for v, name in classes.items()]
    assert [colour["label-value"] for colour in label["colors"]] == [1, 2]
    assert open_sink(tmp_path / "o.zarr").layout == sink.layout


def test_only_whole_shards(tmp_path: Path):
    sink = create_sink(tmp_path / "o.zarr", shape=SHAPE, **SETTINGS)
    block = np.ones((64, 64, 64), np.uint8)
    for box, part in [
        ((slice(0, 32), slice(0, 64), slice(0, 64)), block[:32]),
        ((slice(32, 96), slice(0, 64), slice(0, 64)), block),
        ((slice(0, 64), slice(0, 64), slice(64, 128)), block),
        ((slice(0, 64), slice(0, 64), slice(64, 64)), block[:, :, :0]),
    ]:
        with pytest.raises(ValueError, match="not a whole number of shards"):
            sink.write(box, part)
    with pytest.raises(ValueError, match="expected uint8"):
        sink.write((slice(0, 64), slice(0, 64), slice(0, 64)), block.astype(np.float32))
    with pytest.raises(ValueError, match="expected uint8"):
        sink.write((slice(0, 64), slice(0, 64), slice(0, 64)), block[None])
    assert sink.counters.writes == 0
    sink.write((slice(64, 100), slice(64, 70), slice(64, 90)), block[:36, :6, :26])
    sink.write((slice(0, 100), slice(0, 70), slice(0, 90)), np.full(SHAPE, 7, np.uint8))
    assert (open_source(sink.image).read(tuple(slice(0, n) for n in SHAPE)) == 7).all()


def test_threads_and_processes_share_an_output(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    settings = {**SETTINGS, "shard": (32, 32, 32), "chunk": (16, 16, 16)}
    sink = create_sink(tmp_path / "o.zarr", shape=SHAPE, **settings)
    jobs = [(box, values[box]) for box in boxes(SHAPE, sink.shard)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.starmap(pickle.loads(pickle.dumps(sink)).write, jobs[::2])
    threads = [threading.Thread(target=sink.write, args=job) for job in jobs[1::2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(open_source(sink.image).read(tuple(slice(0, n) for n in SHAPE))[0], values)


def test_what_is_not_ours_is_left_alone(tmp_path: Path):
    create = lambda **more: create_sink(tmp_path / "o.zarr", shape=SHAPE, **{**SETTINGS, **more})  # noqa: E731
    zarr.create_array(str(tmp_path / "o.zarr"), data=np.ones(3))
    for more in ({}, {"overwrite": True}, {"exist_ok": True}):
        with pytest.raises(ConfigError, match="was not created by seewhy"):
            create(**more)
    assert (zarr.open_array(str(tmp_path / "o.zarr"))[:] == 1).all()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="was not created by seewhy"):
        create_sink(tmp_path / "file", shape=SHAPE, overwrite=True, **SETTINGS)
    (tmp_path / "empty").mkdir()
    create_sink(tmp_path / "empty", shape=SHAPE, **SETTINGS)


def test_what_is_ours(tmp_path: Path):
    create = lambda **more: create_sink(tmp_path / "o.zarr", shape=SHAPE, **{**SETTINGS, **more})  # noqa: E731
    box = (slice(0, 64), slice(0, 64), slice(0, 64))
    create().write(box, np.ones((64, 64, 64), np.uint8))
    with pytest.raises(ConfigError, match="already holds a result"):
        create()
    assert open_source(create(exist_ok=True).image).read(box).all()
    with pytest.raises(ConfigError, match=r"another layout: dtype \(uint8 in the store, uint16 now\)"):
        create(exist_ok=True, dtype="uint16")
    assert not open_source(create(overwrite=True).image).read(box).any()
    assert (tmp_path / "o.zarr" / ".seewhy").is_dir()


def test_two_that_create_at_once_share_one(tmp_path: Path):
    sinks: list[object] = []

    def create() -> None:
        sinks.append(create_sink(tmp_path / "o.zarr", shape=SHAPE, exist_ok=True, **SETTINGS).layout)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sinks) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"chunk": (32, 32, 24)}, "is not a multiple of chunk"),
        ({"zarr_format": 4}, "expected 2 or 3"),
        ({"labels": True, "dtype": "float32"}, "expected integers"),
        ({"shard": (64, 64)}, "expected three positive numbers"),
        ({"shape": (64, 64)}, r"expected \(Z, Y, X\)"),
    ],
)
def test_layouts_that_cannot_be(tmp_path: Path, more: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        create_sink(tmp_path / "o.zarr", **{"shape": SHAPE, **SETTINGS, **more})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_what_is_written_stays(tmp_path: Path):
    """The limit on file sizes makes the system refuse writes as a full disk does."""
    sink = create_sink(tmp_path / "o.zarr", shape=SHAPE, **SETTINGS)
    first, second = ((slice(z, z + n), slice(0, 64), slice(0, 64)) for z, n in ((0, 64), (64, 36)))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64)).astype(np.uint8)
    sink.write(first, noise)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"o\.zarr cannot be written \(File too large\); what was written is kept"):
            sink.write(second, noise[:36])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sink.counters.retries == 0
    source = open_source(sink.image)
    np.testing.assert_array_equal(source.read(first)[0], noise)
    assert not source.read(second).any()
    sink.write(second, noise[:36])
    np.testing.assert_array_equal(source.read(second)[0], noise[:36])


def test_a_store_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises((DataError, OSError)):
        create_sink(tmp_path / "file" / "o.zarr", shape=SHAPE, **SETTINGS)


def test_halving():
    values = np.array([[[0, 1, 5]]], np.uint8)
    assert halve_by_mean(values).tolist() == [[[1, 5]]]  # 0.5 is rounded up; an odd end stands for itself
    assert halve_by_mode(values).tolist() == [[[1, 5]]]
    block = np.zeros((2, 2, 2), np.uint16)
    block[0, 0, 0], block[1, 1, 1] = 9, 9
    assert halve_by_mode(block).tolist() == [[[0]]]
    block[0] = 9
    assert halve_by_mode(block).tolist() == [[[9]]]
    rng = np.random.default_rng(0)
    for kind in ("uint8", "uint16", "float32"):
        values = (rng.random((7, 8, 9)) * 250).astype(kind)
        padded = np.pad(values, [(0, 1), (0, 0), (0, 1)], mode="edge").astype(np.float64)
        mean = padded.reshape(4, 2, 4, 2, 5, 2).mean((1, 3, 5))
        expected = mean if kind == "float32" else np.floor(mean + 0.5)
        np.testing.assert_allclose(halve_by_mean(values), expected, rtol=1e-6)
    labels = rng.integers(0, 4, (6, 6, 6)).astype(np.uint8)
    cells = labels.reshape(3, 2, 3, 2, 3, 2).transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, 3, 8)
    counts = (cells[..., None] == np.arange(4)).sum(-2)
    np.testing.assert_array_equal(halve_by_mode(labels), 3 - counts[..., ::-1].argmax(-1))


def test_the_pyramids_memory_does_not_grow_with_the_volume(tmp_path: Path):
    peaks = []
    for depth in (64, 256):
        sink = create_sink(
            tmp_path / f"{depth}.zarr", shape=(depth, 64, 64), dtype="uint8", shard=(32, 64, 64), chunk=(16, 32, 32)
        )
        sink.write((slice(0, depth), slice(0, 64), slice(0, 64)), np.ones((depth, 64, 64), np.uint8))
        tracemalloc.start()
        sink.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 200_000


def test_part_lies_on_its_box_of_the_volume_and_replaces_an_earlier_one(tmp_path):
    source = ArraySource(np.zeros((70, 80, 90), np.uint8), spacing=(2.0, 0.5, 0.5), unit="micrometer")
    values = np.arange(3 * 4 * 70, dtype=np.uint16).reshape(3, 4, 70)
    for shift in (0, 1):
        box = (slice(5, 8), slice(10 + shift, 14 + shift), slice(20, 90))
        write_part(tmp_path / "part.zarr", values + shift, source=source, box=box, attributes={"shift": shift})
    stored = open_source(tmp_path / "part.zarr", level=0)
    np.testing.assert_array_equal(stored.read_all()[0], values + 1)
    assert (stored.spacing, stored.translation, stored.unit) == ((2.0, 0.5, 0.5), (10.0, 5.5, 10.0), "micrometer")
    assert open_sink(tmp_path / "part.zarr").attributes == {"shift": 1}
