"""Metadata of zarr stores are whatever a stranger wrote: sizes, chunks, axes and scales are checked when opening."""

import json
import os

import numpy as np
import pytest
import zarr

from seewhy.errors import DataError, SeewhyError
from seewhy.io.checks import sizes
from seewhy.io.zarr.opening import open_source

HUGE = 10**12


def store(folder, *, zarr_format=3, **changes):
    """A store [4, 4, 4] with entries of its metadata replaced."""
    zarr.create_array(str(folder), shape=(4, 4, 4), chunks=(2, 2, 2), dtype="u1", zarr_format=zarr_format)
    path = folder / ("zarr.json" if zarr_format == 3 else ".zarray")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def chunk_grid(*shape):
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [HUGE, HUGE, HUGE]},
        {"shape": [1 << 20, 1 << 20, 1 << 20]},
        {"shape": [0, 4, 4]},
        {"shape": [-4, 4, 4]},
        {"shape": [4.5, 4, 4]},
        {"shape": "abc"},
        {"shape": [4, 4]},
        {"chunk_grid": chunk_grid(0, 2, 2)},
        {"chunk_grid": chunk_grid(-2, 2, 2)},
        {"chunk_grid": chunk_grid(1 << 20, 1 << 20, 1 << 20)},
        {"chunk_grid": {"name": "regular"}},
        {"chunk_grid": 5},
        {"data_type": "complex64", "fill_value": [0, 0]},
        {"data_type": 5},
        {"codecs": []},
        {"codecs": 5},
        {"fill_value": "abc"},
        {"dimension_names": ["z", "y"]},
        {"dimension_names": 5},
        {"attributes": 5},
        {"attributes": []},
        {"attributes": "abc"},
        {"attributes": {"_ARRAY_DIMENSIONS": 5}},
        {"attributes": {"_ARRAY_DIMENSIONS": ["x"]}},
        {"node_type": "tree"},
    ],
)
def test_metadata_of_zarr_3(tmp_path, changes):
    with pytest.raises(DataError, match="scan"):
        open_source(store(tmp_path / "scan", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        *({"shape": [HUGE, HUGE, HUGE]}, {"shape": [0, 4, 4]}, {"shape": None}, {"chunks": [0, 2, 2]}, {"chunks": 5}),
        *({"chunks": [-1, 2, 2]}, {"dtype": "|O"}, {"dtype": 5}, {"compressor": {"id": "none such"}}, {"order": 5}),
    ],
)
def test_metadata_of_zarr_2(tmp_path, changes):
    with pytest.raises(DataError, match="scan"):
        open_source(store(tmp_path / "scan", zarr_format=2, **changes))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"5", b'{"zarr_format": 3}', b"[" * 100_000])
def test_metadata_that_are_no_metadata(tmp_path, content):
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "zarr.json").write_bytes(content)
    with pytest.raises(SeewhyError, match="scan"):
        open_source(tmp_path / "scan")


def ome(folder, axes, scale, translation=None):
    group = zarr.create_group(str(folder), zarr_format=3)
    group.create_array("0", shape=(4, 4, 4), chunks=(2, 2, 2), dtype="u1")
    moves = [{"type": "scale", "scale": scale}]
    moves += [] if translation is None else [{"type": "translation", "translation": translation}]
    entry = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": moves}]}
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [entry]}})
    return folder


ZYX = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]


@pytest.mark.parametrize(
    ("axes", "scale", "translation"),
    [
        (ZYX[:2], [1, 1], None),
        ([ZYX[0], ZYX[1], {"name": "c"}], [1, 1, 1], None),
        ([ZYX[0], ZYX[0], ZYX[1], ZYX[2]], [1, 1, 1, 1], None),
        ([ZYX[0], ZYX[0], ZYX[2]], [1, 1, 1], None),
        ([*ZYX, {"name": "c"}], [1, 1, 1, 1], None),
        ([{"type": "space"}] * 3, [1, 1, 1], None),
        (5, [1, 1, 1], None),
        ("zyx", [1, 1], None),
        ("zyx", [1, 1, 1], None),
        (ZYX, [1, 1, True], None),
        (ZYX, [1, 1, 1e300], None),
        (ZYX, [1, 1, 1e-300], None),
        (ZYX, [1, 1, float("nan")], None),
        (ZYX, [1, 1, float("inf")], None),
        (ZYX, [1, 1, 0], None),
        (ZYX, [1, 1, -1], None),
        (ZYX, ["a", 1, 1], None),
        (ZYX, 5, None),
        (ZYX, [1, 1, 1], [0, 0, float("nan")]),
        (ZYX, [1, 1, 1], [0]),
    ],
)
def test_ome_axes_and_scales(tmp_path, axes, scale, translation):
    with pytest.raises(DataError, match="scan"):
        open_source(ome(tmp_path / "scan", axes, scale, translation))


def test_ome_metadata_that_fit_are_read(tmp_path):
    source = open_source(ome(tmp_path / "scan", ZYX, [2, 1, 0.5], [0, 1, -3]))
    assert source.spacing == (2, 1, 0.5)
    assert source.translation == (0, 1, -3)


def test_level_cannot_lie_outside_the_store(tmp_path):
    zarr.create_array(str(tmp_path / "secret"), shape=(4, 4, 4), chunks=(2, 2, 2), dtype="u1")
    group = zarr.create_group(str(tmp_path / "scan"), zarr_format=3)
    entry = {"axes": ZYX, "datasets": [{"path": "../secret", "coordinateTransformations": []}]}
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [entry]}})
    with pytest.raises(DataError, match="scan"):
        open_source(tmp_path / "scan")


def test_chunk_beyond_this_machines_memory_is_refused(tmp_path, monkeypatch):
    zarr.create_array(str(tmp_path / "scan"), shape=(8, 8, 8), chunks=(8, 8, 8), dtype="u1")
    assert open_source(tmp_path / "scan").read((slice(0, 1),) * 3) == np.zeros((1, 1, 1, 1))
    monkeypatch.setattr(sizes, "physical_memory", lambda: 511)
    with pytest.raises(DataError, match=r"chunk.*memory"):
        open_source(tmp_path / "scan")


def test_metadata_in_a_pipe_are_not_waited_for(tmp_path):
    (tmp_path / "scan").mkdir()
    os.mkfifo(tmp_path / "scan" / "zarr.json")
    with pytest.raises(DataError, match="pipe"):
        open_source(tmp_path / "scan")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "link to nothing"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_is_no_file_is_no_chunk(tmp_path, kind, zarr_format):
    """Neither waited for nor taken for a chunk that is missing, which would be background."""
    array = zarr.create_array(
        str(tmp_path / "scan"), data=np.ones((4, 4, 4)), chunks=(2, 4, 4), zarr_format=zarr_format
    )
    chunk = tmp_path / "scan" / array.metadata.encode_chunk_key((1, 0, 0))
    chunk.unlink()
    links = {"device": "/dev/zero", "loop": chunk.name, "link to nothing": "../.git/annex/objects/x"}
    if kind == "pipe":
        os.mkfifo(chunk)
    elif kind == "folder":
        chunk.mkdir()
    else:
        chunk.symlink_to(links[kind])
    source = open_source(tmp_path / "scan")
    boxes = [tuple(slice(start, start + 1) for start in (z, 0, 0)) for z in (0, 2)]
    assert source.occupied(boxes[0])
    assert source.read(boxes[0]).item() == 1
    for use in (source.read, source.occupied):
        with pytest.raises(DataError, match=chunk.name):
            use(boxes[1])
