"""Every reader against the library that wrote the file, and SimpleITK: types, byte orders, compressions and axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numcodecs
import numpy as np
import pytest
import zarr
from PIL import Image

from seewhy.data.cases.mri_slices import read_values
from seewhy.data.cases.planar_image import read_plane
from seewhy.errors import DataError
from seewhy.io.image import read_image
from seewhy.io.nifti import NiftiFile
from seewhy.io.npy import read_npy
from seewhy.io.nrrd import read_nrrd
from seewhy.io.zarr.opening import open_source

TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
SHAPE = (3, 4, 5)


def make(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Values at the limits of a type, where wrong signs, orders and roundings show."""
    rng = np.random.default_rng(0)
    if dtype[-2] == "f":
        return rng.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, shape, dtype=np.dtype(dtype).newbyteorder("="), endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values.astype(dtype)


def check(found: np.ndarray, stored: np.ndarray) -> None:
    assert found.dtype.newbyteorder("=") == stored.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, stored)


def read_volume(path: Path | str) -> np.ndarray:
    source = open_source(path)
    values = source.read(tuple(slice(0, size) for size in source.shape[1:]))
    assert values.dtype == source.dtype
    assert values.dtype.isnative
    return values


def sitk_array(path: Path) -> np.ndarray:
    sitk: Any = pytest.importorskip("SimpleITK")
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [name for name in TYPES if name != "f2"])
def test_nifti(tmp_path: Path, dtype: str, order: str, suffix: str):
    stored, path = make(dtype), tmp_path / f"a{suffix}"
    kinds: tuple[Any, ...] = (nib.Nifti1Image, nib.Nifti2Image) if suffix == ".nii" else (nib.Nifti1Image,)
    for kind in kinds:
        header = kind.header_class(endianness=order)
        nib.save(kind(stored, np.eye(4), header, dtype=stored.dtype), path)
        assert nib.load(path).header.endianness == order
        check(NiftiFile(path).read(), stored)
        assert NiftiFile(path).read().dtype.isnative
        check(read_values(path), stored)
        check(read_volume(path)[0], stored.T)
        if kind is nib.Nifti1Image:
            check(sitk_array(path), stored.T)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_nifti_with_scaling(tmp_path: Path, dtype: str):
    """ITK keeps float32 for scaled values, as volumes do; nibabel computes in float64."""
    stored, path = make(dtype), tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(stored, np.eye(4), dtype=stored.dtype), path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.37, -12.5], "<f4").tobytes()
    path.write_bytes(content)
    expected = nib.load(path).get_fdata()
    np.testing.assert_allclose(NiftiFile(path).read(), expected, rtol=1e-6)
    found = read_volume(path)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.T, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [name for name in TYPES if name != "f2"])
def test_nrrd(tmp_path: Path, dtype: str, order: str, encoding: str):
    if encoding == "ascii" and (dtype in ("f4", "f8", "i8", "u8") or order == ">"):
        pytest.skip("text has no byte order, and NumPy neither writes all digits nor reads the limits of 64 bits")
    stored, path = make(order + dtype), tmp_path / "a.nrrd"
    nrrd.write(str(path), stored, {"encoding": encoding, "endian": "big" if order == ">" else "little"})
    found, _ = read_nrrd(path)
    check(found, stored)
    assert found.dtype.isnative
    if encoding in ("raw", "gzip"):
        check(sitk_array(path), stored.T)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [*TYPES, "b1"])
def test_npy(tmp_path: Path, dtype: str, order: str, layout: str):
    stored = make("u1") > 99 if dtype == "b1" else make(order + dtype)
    np.save(tmp_path / "a.npy", np.asarray(stored, order=layout))
    check(read_npy(tmp_path / "a.npy"), stored)
    check(read_volume(tmp_path / "a.npy")[0], stored)
    np.save(tmp_path / "plane.npy", np.asarray(stored[0], order=layout))
    np.testing.assert_array_equal(read_plane(tmp_path / "plane.npy").values[0], stored[0].astype(np.float32))


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [*TYPES, "b1"])
def test_zarr(tmp_path: Path, dtype: str, order: str, form: int):
    stored = make("u1") > 99 if dtype == "b1" else make(order + dtype)
    codecs = [None, zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec(), zarr.codecs.BloscCodec()]
    if form == 2:
        codecs = [None, *(numcodecs.get_codec({"id": name}) for name in ("zstd", "gzip", "blosc"))]
    codec = codecs[(TYPES.index(dtype) if dtype in TYPES else 0) % len(codecs)]
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=SHAPE, dtype=stored.dtype, chunks=(2, 3, 2), zarr_format=form, compressors=codec
    )
    array[...] = stored
    check(read_volume(tmp_path / "a.zarr")[0], stored)


@pytest.mark.parametrize("colours", [None, 3])
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png(tmp_path: Path, dtype: str, level: int, colours: int | None):
    imagecodecs: Any = pytest.importorskip("imagecodecs")
    stored = make(dtype, (7, 5) if colours is None else (7, 5, colours))
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(stored, level=level))
    if dtype == "u2" and colours is not None:
        with pytest.raises(DataError, match="more than 8 bits"):
            read_image(path)
        return
    check(read_image(path), stored)
    check(read_image(path), np.asarray(imagecodecs.png_decode(path.read_bytes())))
    if colours is None:
        np.testing.assert_array_equal(read_plane(path).values[0], stored)


def test_jpeg_is_read_under_any_name_of_a_picture(tmp_path: Path):
    picture = np.kron(np.array([[10, 200], [90, 40]], np.uint8), np.ones((8, 8), np.uint8))
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=100)
    stored = np.asarray(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(read_plane(tmp_path / "a.jpg").values[0], stored)
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), stored)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "complex.nii": lambda path: nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.complex64), np.eye(4)), path),
    "complex.npy": lambda path: np.save(path, np.zeros(SHAPE, np.complex64)),
    "text.npy": lambda path: np.save(path, np.full(SHAPE, "a")),
    "time.npy": lambda path: np.save(path, np.zeros(SHAPE, "datetime64[s]")),
    "fields.npy": lambda path: np.save(path, np.zeros(SHAPE, [("r", "u1"), ("g", "u1")])),
    "complex.zarr": lambda path: zarr.create_array(str(path), data=np.zeros(SHAPE, np.complex64)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_types_that_are_no_plain_numbers_are_named(tmp_path: Path, name: str):
    FOREIGN[name](tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} holds (values of type|colours)"):
        open_source(tmp_path / name)


def test_rgb_nifti_is_named(tmp_path: Path):
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(DataError, match=r"rgb\.nii holds colours \(R, G, B\)"):
        open_source(tmp_path / "rgb.nii")
