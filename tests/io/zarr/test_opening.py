from __future__ import annotations

import gzip
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from seewhy.errors import ConfigError, DataError
from seewhy.io.zarr.mapped import ArraySource
from seewhy.io.zarr.opening import open_source

WHOLE = (slice(0, 20), slice(0, 30), slice(0, 40))
BOX = (slice(3, 20), slice(7, 8), slice(0, 33))


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, (2, 20, 30, 40)).astype(np.uint16)


def taken(values: np.ndarray, box: tuple[slice, slice, slice]) -> np.ndarray:
    return values[(slice(None), *box)]


def same(source, values: np.ndarray) -> None:
    assert source.shape == values.shape
    assert source.dtype == values.dtype
    for box in (WHOLE, BOX):
        read = source.read(box)
        assert read.flags["C_CONTIGUOUS"]
        assert read.flags["WRITEABLE"]
        np.testing.assert_array_equal(read, taken(values, box))


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("sharded", [False, True])
def test_zarr_arrays(tmp_path: Path, values: np.ndarray, form: int, sharded: bool):
    if form == 2 and sharded:
        pytest.skip("zarr v2 has no shards")
    path = str(tmp_path / "image.zarr")
    shards = {"shards": (1, 16, 16, 32)} if sharded else {}
    zarr.create_array(path, data=values, chunks=(1, 8, 16, 16), zarr_format=form, **shards)
    source = open_source(path)
    same(source, values)
    assert source.chunks == (8, 16, 16)
    assert (source.spacing, source.unit, source.level) == (None, None, None)
    assert source.counters.reads > 0
    same(open_source(path, channels=[1]), values[1:])
    same(open_source(path, channels=[1, 0]), values[::-1])
    with pytest.raises(ConfigError, match=r"stores 2 channels \(0 to 1\); there is no channel \[2\]"):
        open_source(path, channels=[0, 2])


def test_byte_order_is_this_machines(tmp_path: Path, values: np.ndarray):
    zarr.create_array(str(tmp_path / "a.zarr"), data=values.astype(">u2"), zarr_format=2)
    source = open_source(tmp_path / "a.zarr")
    assert source.read(BOX).dtype.isnative
    same(source, values)


@pytest.mark.parametrize(
    ("axes", "order"),
    [("zyx", (1, 2, 3)), ("czyx", (0, 1, 2, 3)), ("zcyx", (1, 0, 2, 3)), ("xyz", (3, 2, 1)), ("tczyx", (0, 1, 2, 3))],
)
@pytest.mark.parametrize("form", [2, 3])
def test_ome_axes(tmp_path: Path, values: np.ndarray, axes: str, order: tuple[int, ...], form: int):
    stored = (values if len(order) == 4 else values[:1]).transpose(0, 1, 2, 3)
    stored = stored.transpose(order) if len(order) == 4 else stored[0].transpose([axis - 1 for axis in order])
    stored = stored[None] if "t" in axes else stored
    write_ome(tmp_path / "i.zarr", [stored], axes, form=form)
    source = open_source(tmp_path / "i.zarr")
    same(source, values if "c" in axes else values[:1])
    assert source.spacing == (3.0, 2.0, 1.0)
    assert source.translation == (30.0, 20.0, 10.0)
    assert source.unit == "micrometer"


def write_ome(path: Path, levels: list[np.ndarray], axes: str, *, form: int, names: list[str] | None = None) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=form)
    size, first = {"z": 3.0, "y": 2.0, "x": 1.0}, {"z": 30.0, "y": 20.0, "x": 10.0}
    names = names or [str(index) for index in range(len(levels))]
    datasets = []
    for index, (name, level) in enumerate(zip(names, levels, strict=True)):
        group.create_array(name, data=level, chunks=tuple(min(16, n) for n in level.shape))
        scale = [size[a] * 2**index if a in size else 1.0 for a in axes]
        shift = [first.get(a, 0.0) for a in axes]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": name, "coordinateTransformations": transforms})
    entries = [{"name": a} | ({"type": "space", "unit": "micrometer"} if a in size else {}) for a in axes]
    content = {"multiscales": [{"axes": entries, "datasets": datasets, "version": "0.4"}]}
    group.attrs.update({"ome": {"version": "0.5", **content}} if form == 3 else content)


def test_levels_by_position_and_name(tmp_path: Path, values: np.ndarray):
    path = tmp_path / "i.zarr"
    half = values[0][::2, ::2, ::2]
    write_ome(path, [values[0], half], "zyx", form=3, names=["full", "half"])
    assert open_source(path).level == "full"
    for level in (1, "1", "half"):
        source = open_source(path, level=level)
        assert (source.shape, source.level, source.spacing) == ((1, *half.shape), "half", (6.0, 4.0, 2.0))
    inner = open_source(path / "half")
    assert (inner.spacing, inner.level) == ((6.0, 4.0, 2.0), "half")
    with pytest.raises(ConfigError, match=r"has no level 2; valid: 'full', 'half'"):
        open_source(path, level=2)
    with pytest.raises(ConfigError, match=r"no level 'hafl'; valid: 'half', 'full'"):
        open_source(path, level="hafl")
    with pytest.raises(ConfigError, match="one array without levels"):
        open_source(path / "half", level=1)


def test_units_that_differ_become_millimetres(tmp_path: Path, values: np.ndarray):
    path = tmp_path / "i.zarr"
    write_ome(path, [values[0]], "zyx", form=2)
    group = zarr.open_group(str(path), mode="r+")
    attributes = dict(group.attrs)
    attributes["multiscales"][0]["axes"][0]["unit"] = "nanometer"
    group.attrs.update(attributes)
    source = open_source(path)
    assert source.unit == "millimeter"
    np.testing.assert_allclose(source.spacing, (3e-6, 2e-3, 1e-3))


def test_groups_without_a_pyramid(tmp_path: Path, values: np.ndarray):
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("raw", data=values[0])
    same(open_source(tmp_path / "g.zarr"), values[:1])
    group.create_array("labels", data=values[0])
    with pytest.raises(ConfigError, match=r"name the array with level=…; valid: 'labels', 'raw'"):
        open_source(tmp_path / "g.zarr")
    same(open_source(tmp_path / "g.zarr", level="raw"), values[:1])
    with pytest.raises(ConfigError, match=r"no array 'row'; nearest: 'raw'"):
        open_source(tmp_path / "g.zarr", level="row")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("channels", [1, 2])
def test_nifti_is_reversed_as_simpleitk_does(tmp_path: Path, values: np.ndarray, suffix: str, channels: int):
    stored = values[:channels].T if channels == 2 else values[0].T
    affine = np.diag([1.5, 2.5, 4.0, 1.0])
    affine[:3, 3] = (-7, 8, 9)
    path = tmp_path / f"scan{suffix}"
    nib.save(nib.Nifti1Image(stored, affine), path)
    source = open_source(path)
    same(source, values[:channels])
    assert (source.spacing, source.unit) == ((4.0, 2.5, 1.5), "millimeter")
    np.testing.assert_array_equal(source.affine, affine)
    same(pickle.loads(pickle.dumps(source)), values[:channels])


def test_nifti_scaling_gives_float32(tmp_path: Path, values: np.ndarray):
    image = nib.Nifti1Image(values[0].T.astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -100)
    nib.save(image, tmp_path / "a.nii")
    expected = nib.load(tmp_path / "a.nii").get_fdata(dtype=np.float32).T[None]
    same(open_source(tmp_path / "a.nii"), expected)


def test_npy_is_mapped(tmp_path: Path, values: np.ndarray):
    np.save(tmp_path / "a.npy", values)
    same(open_source(tmp_path / "a.npy"), values)
    np.save(tmp_path / "b.npy", values[0])
    same(open_source(tmp_path / "b.npy"), values[:1])
    np.save(tmp_path / "c.npy", values[0, 0])
    with pytest.raises(DataError, match=r"c\.npy has shape \(30, 40\); expected \(Z, Y, X\)"):
        open_source(tmp_path / "c.npy")


def test_tiff_pages_and_folders(tmp_path: Path, values: np.ndarray):
    pages = [Image.fromarray(plane) for plane in values[0]]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    same(open_source(tmp_path / "stack.tif"), values[:1])
    (tmp_path / "planes").mkdir()
    for index, page in enumerate(pages):
        page.save(tmp_path / "planes" / f"slice{index}.tif")  # slice10 sorts before slice2 as text
    source = open_source(tmp_path / "planes")
    same(source, values[:1])
    assert source.chunks == (1, 30, 40)
    Image.fromarray(values[0, 0, :9]).save(tmp_path / "planes" / "slice7.tif")
    with pytest.raises(DataError, match=r"slice7\.tif has shape \(9, 40\); expected \(30, 40\)"):
        open_source(tmp_path / "planes").read(WHOLE)


def test_tiff_of_imagej_and_ome(tmp_path: Path, values: np.ndarray):
    stack = values.swapaxes(0, 1)  # ImageJ wants Z, C, Y, X
    facts = {"axes": "ZCYX", "spacing": 3.0, "unit": "um"}
    tifffile.imwrite(tmp_path / "ij.tif", stack, imagej=True, resolution=(1 / 0.5, 1 / 0.25), metadata=facts)
    source = open_source(tmp_path / "ij.tif")
    same(source, values)
    assert source.unit == "micrometer"
    np.testing.assert_allclose(source.spacing, (3.0, 0.25, 0.5))
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (0.5, 0.25, 3.0), strict=True)}
    tifffile.imwrite(tmp_path / "b.ome.tif", values, metadata={"axes": "CZYX", **sizes})
    source = open_source(tmp_path / "b.ome.tif")
    same(source, values)
    assert (source.spacing, source.unit) == ((3.0, 0.25, 0.5), "micrometer")
    tifffile.imwrite(tmp_path / "t.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(DataError, match="20 time points; expected one"):
        open_source(tmp_path / "t.tif")


def test_arrays_in_memory(values: np.ndarray):
    source = ArraySource(values, spacing=(3, 1, 1), channels=[1])
    same(source, values[1:])
    assert source.identity() != ArraySource(values + 1, spacing=(3, 1, 1), channels=[1]).identity()
    assert source.occupied(BOX)


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("sharded", [False, True])
def test_occupied_without_reading(tmp_path: Path, form: int, sharded: bool):
    if form == 2 and sharded:
        pytest.skip("zarr v2 has no shards")
    shards = {"shards": (20, 20, 40)} if sharded else {}
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(40, 40, 40), chunks=(10, 10, 10), dtype="u1", zarr_format=form, **shards
    )
    array[12, 25, 38] = 1
    source = open_source(tmp_path / "a.zarr")
    found = {
        (z, y, x)
        for z in range(4)
        for y in range(4)
        for x in range(4)
        if source.occupied(tuple(slice(10 * i, 10 * i + 10) for i in (z, y, x)))
    }
    assert found == {(1, 2, 3)}
    assert source.occupied((slice(19, 20), slice(0, 40), slice(39, 40)))
    assert not source.occupied((slice(20, 40), slice(0, 40), slice(0, 40)))
    assert source.counters.bytes_read < 4000  # of 64000: metadata and the index of each shard


def test_identity_survives_a_move_and_notes_a_change(tmp_path: Path, values: np.ndarray):
    zarr.create_array(str(tmp_path / "a.zarr"), data=values)
    before = open_source(tmp_path / "a.zarr").identity()
    shutil.move(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert open_source(tmp_path / "b.zarr").identity() == before
    zarr.create_array(str(tmp_path / "b.zarr"), data=values, overwrite=True)
    assert open_source(tmp_path / "b.zarr").identity() != before


def test_identity_of_zarr_is_of_its_metadata(tmp_path: Path, values: np.ndarray):
    """As it says: no chunk is asked for, so that values changed in place are not seen; new times are another volume."""
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=values)
    before = open_source(tmp_path / "a.zarr").identity()
    array[...] = 7
    assert open_source(tmp_path / "a.zarr").identity() == before
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "same.zarr")  # keeps times, as cp -a does
    assert open_source(tmp_path / "same.zarr").identity() == before
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "new.zarr", copy_function=shutil.copyfile)
    os.utime(tmp_path / "new.zarr" / "zarr.json", ns=(1, 1))
    assert open_source(tmp_path / "new.zarr").identity() != before


def test_threads_and_processes(tmp_path: Path, values: np.ndarray):
    zarr.create_array(str(tmp_path / "a.zarr"), data=values, chunks=(1, 4, 8, 8))
    source = open_source(tmp_path / "a.zarr")
    source.read(BOX)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            for read in pool.map(source.read, [WHOLE, BOX, WHOLE]):
                assert read.shape[0] == 2
    results: list[bool] = []
    work = lambda: results.append(bool((source.read(WHOLE) == values).all()))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_no_torch():
    code = "import sys, seewhy.io.zarr.source, seewhy.io.zarr.sink; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0


def test_a_truncated_chunk_is_named(tmp_path: Path, values: np.ndarray):
    zarr.create_array(str(tmp_path / "a.zarr"), data=values[0], chunks=(10, 10, 10), zarr_format=2)
    chunk = tmp_path / "a.zarr" / "1.2.3"
    chunk.write_bytes(chunk.read_bytes()[:-100])
    source = open_source(tmp_path / "a.zarr")
    source.read((slice(0, 10), slice(0, 30), slice(0, 40)))
    with pytest.raises(DataError, match=r"a\.zarr: chunk 1\.2\.3 is truncated or damaged .*copy it again") as caught:
        source.read(WHOLE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: zarr.create_array(str(p), data=np.zeros((4, 4))), r"expected \(Z, Y, X\) or \(C, Z, Y, X\)"),
        (lambda p: zarr.create_array(str(p), data=np.zeros((2, 1, 4, 4, 4))), "2 entries along axis 't'"),
        (lambda p: zarr.create_array(str(p), data=np.zeros((4, 4, 4), dtype="complex64")), "expected bool, integer"),
        (lambda p: write_ome(p, [np.zeros((4, 4))], "yx", form=3), "expected z, y and x"),
        (lambda p: zarr.open_group(str(p), mode="w").attrs.update({"multiscales": [{}]}), "metadata are invalid"),
    ],
)
def test_bad_stores_in_one_line(tmp_path: Path, make, message: str):
    make(tmp_path / "bad.zarr")
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path / "bad.zarr")
    assert "\n" not in str(caught.value)
    assert "bad.zarr" in str(caught.value)


def test_boxes_outside_and_broken_files(tmp_path: Path, values: np.ndarray):
    with pytest.raises(DataError, match=r"Y 0:31 lies outside 0:30"):
        ArraySource(values).read((slice(0, 20), slice(0, 31), slice(0, 40)))
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "none.npy")
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(ConfigError, match="has no levels"):
        open_source(tmp_path / "a.npy", level=1)
    nib.save(nib.Nifti1Image(values[0].T, np.eye(4)), tmp_path / "a.nii.gz")
    packed = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match="truncated or damaged"):
        open_source(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii").write_bytes(gzip.decompress(packed)[:5000])
    with pytest.raises(DataError, match="truncated or damaged"):
        open_source(tmp_path / "b.nii")


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_a_scale_that_is_no_size_is_refused(tmp_path: Path, size: float):
    write_ome(tmp_path / "i.zarr", [np.zeros((4, 4, 4), np.uint8)], "zyx", form=2)
    group = zarr.open_group(str(tmp_path / "i.zarr"), mode="r+")
    attributes = dict(group.attrs)
    attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][1] = size
    group.attrs.update(attributes)
    with pytest.raises(DataError, match=rf"i\.zarr: its OME .*\(3\.0, {size}, 1\.0\)"):
        open_source(tmp_path / "i.zarr")


@pytest.mark.parametrize(
    "address", ["ftp://nowhere.invalid/x.nii.gz", "ftp://nowhere.invalid/x.zarr", "none://x/y.zarr"]
)
def test_addresses_that_cannot_be_reached_are_named(address):
    with pytest.raises(DataError, match=address):
        open_source(address, options={"retries": 0})
