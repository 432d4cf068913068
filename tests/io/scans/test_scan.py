"""NRRD and MetaImage against SimpleITK: values, types, byte orders, compressions, directions, channels; refusals."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seewhy.errors import DataError
from seewhy.io.image import read_image
from seewhy.io.scans.metaimage import write_metaimage
from seewhy.io.scans.scan import open_scan, read_scan, write_scan
from seewhy.io.slices import stack_to_nifti
from seewhy.io.zarr.opening import open_source

TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
SHAPE = (3, 4, 5)
TURN = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
SPACING, ORIGIN = (0.5, 0.75, 3.0), (-12.5, 3.25, 100.0)
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAI": np.diag([-1.0, -1, -1]),
    "turned": np.eye(3)[[2, 0, 1]],
    "oblique": TURN,
}


def make(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Values at the limits of a type, where wrong signs and orders show."""
    rng = np.random.default_rng(0)
    if dtype[0] == "f":
        return rng.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    values.flat[:2] = limits.min, limits.max
    return values


def write_itk(path: Path, array: np.ndarray, *, direction: np.ndarray, vector: bool = False, packed: bool = False):
    """Write [Z, Y, X(, C)] as ITK does, and return its affine in RAS+."""
    sitk: Any = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(direction.ravel())
    sitk.WriteImage(image, str(path), packed)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * SPACING, ORIGIN
    affine[:2] *= -1
    return affine


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("dtype", TYPES)
def test_files_of_itk(tmp_path: Path, dtype: str, suffix: str, packed: bool):
    for name, direction in DIRECTIONS.items():
        for channels in ((), (2,)):
            path, stored = tmp_path / f"{name}{len(channels)}{suffix}", make(dtype, (*SHAPE, *channels))
            affine = write_itk(path, stored, direction=direction, vector=bool(channels), packed=packed)
            scan = open_scan(path)
            values = scan.read()
            assert values.dtype == stored.dtype == scan.dtype.newbyteorder("=")
            assert values.shape == scan.shape
            np.testing.assert_array_equal(values, np.moveaxis(stored, (0, 1, 2), (2, 1, 0)))
            np.testing.assert_allclose(scan.geometry.affine, affine, atol=1e-9)
            assert scan.geometry.oriented
            source = open_source(path)
            box = source.read((slice(1, 3), slice(0, 4), slice(2, 5)))
            expected = np.moveaxis(stored, 3, 0) if channels else stored[None]
            np.testing.assert_array_equal(box, expected[:, 1:3, :, 2:5])
            np.testing.assert_allclose(source.spacing, SPACING[::-1])
            assert source.dtype == stored.dtype


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("dtype", TYPES)
def test_what_is_written_is_read_by_itk(tmp_path: Path, dtype: str, suffix: str):
    sitk: Any = pytest.importorskip("SimpleITK")
    for name, direction in DIRECTIONS.items():
        for channels in ((), (3,)):
            affine = np.eye(4)
            affine[:3, :3], affine[:3, 3] = direction * SPACING, ORIGIN
            affine[:2] *= -1
            stored = make(dtype, (*SHAPE, *channels))
            path = write_scan(tmp_path / f"{name}{suffix}", stored, affine=affine)
            image = sitk.ReadImage(str(path))
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.moveaxis(stored, (0, 1, 2), (2, 1, 0)))
            np.testing.assert_allclose(image.GetDirection(), direction.ravel(), atol=1e-12)
            np.testing.assert_allclose(image.GetSpacing(), SPACING)
            np.testing.assert_allclose(image.GetOrigin(), ORIGIN)
            values, geometry = read_scan(path)
            assert values.dtype == stored.dtype
            np.testing.assert_array_equal(values, stored)
            np.testing.assert_allclose(geometry.affine, affine, atol=1e-12)
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []


HEADER = {
    "ObjectType": "Image", "NDims": "3", "DimSize": "5 4 3", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
}  # fmt: skip


def write_header(path: Path, content: bytes, **changes: str | None) -> Path:
    facts = {**HEADER, **changes}
    last = facts.pop("ElementDataFile")
    lines = [f"{key} = {value}" for key, value in facts.items() if value is not None]
    path.write_bytes("\n".join([*lines, f"ElementDataFile = {last}", ""]).encode() + content)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_spellings_of_a_header(tmp_path: Path, order: str):
    stored = make("i2")
    content = stored.astype(f"{order}i2").tobytes()
    msb = {"BinaryDataByteOrderMSB": str(order == ">")}
    for name, facts, place in (
        ("plain", msb, np.eye(3)),
        ("old", {"ElementByteOrderMSB": msb["BinaryDataByteOrderMSB"], "ElementSize": "1 2 3"}, np.diag([1, 2, 3])),
        ("position", {**msb, "Position": "1 2 3", "ElementSpacing": "0.5 1 1"}, np.diag([0.5, 1, 1])),
    ):
        values, geometry = read_scan(write_header(tmp_path / f"{name}.mha", content, **facts))
        np.testing.assert_array_equal(values, stored.T)
        np.testing.assert_allclose(geometry.affine[:3, :3], np.diag([-1, -1, 1]) @ place)
        assert not geometry.oriented
    assert geometry.affine[:3, 3].tolist() == [-1, -2, 3]
    (tmp_path / "values.raw").write_bytes(b"12345678" + content)
    for size in ("8", "-1"):
        path = write_header(tmp_path / "a.mhd", b"", **msb, ElementDataFile="values.raw", HeaderSize=size)
        np.testing.assert_array_equal(read_scan(path)[0], stored.T)
        np.testing.assert_array_equal(read_boxes(path)[0], stored)
    path = write_header(tmp_path / "plane.mha", content[:40], **msb, NDims="2", DimSize="5 4")
    assert open_scan(path).shape == (5, 4, 1)
    path = write_header(tmp_path / "series.mha", content, **msb, NDims="4", DimSize="5 4 1 3")
    assert open_scan(path).shape == (5, 4, 1, 3)
    np.testing.assert_array_equal(open_scan(path).read(channel=2)[..., 0], stored[2].T)


def read_boxes(path: Path) -> np.ndarray:
    return open_source(path).read((slice(0, 3), slice(0, 4), slice(0, 5)))


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"ElementType": "MET_FLOAT"}, "truncated"),
        ({"DimSize": "500000 400000 300000"}, "announces"),
        ({"DimSize": "500000 400000 300000", "CompressedData": "True"}, "announces"),
        ({"DimSize": "5 4"}, "3 axes of sizes"),
        ({"DimSize": "5 4 -3"}, "sizes"),
        ({"DimSize": "5 4 many"}, "damaged"),
        ({"DimSize": "5 4 2", "CompressedData": "True"}, "more values"),
        ({"DimSize": "5 4 4", "CompressedData": "True"}, "are missing"),
        ({"ElementType": "MET_OTHER"}, "MET_OTHER"),
        ({"ElementType": None}, "ElementType"),
        ({"BinaryData": "False"}, "as text"),
        ({"ElementSpacing": "1 1 0"}, "sizes above 0"),
        ({"ElementSpacing": "1 1"}, "expected 3"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "one plane"),
        ({"TransformMatrix": "1 0 0 0 nan 0 0 0 1"}, "NaN"),
        ({"ElementNumberOfChannels": "0"}, "0 channels"),
        ({"ElementDataFile": "../secret.raw"}, "same folder"),
        ({"ElementDataFile": "/etc/passwd"}, "same folder"),
        ({"ElementDataFile": "LIST"}, "same folder"),
        ({"ElementDataFile": "p%03d.raw 1 3 1"}, "same folder"),
        ({"ElementDataFile": "none.raw"}, "none.raw does not exist"),
        ({"HeaderSize": "-2"}, "HeaderSize = -2"),
        ({"ObjectType": None, "NDims": None, "Hello": "3"}, "begins with"),
    ],
)
def test_damaged_and_hostile_headers_are_named(tmp_path: Path, changes: dict[str, str | None], fact: str):
    content = make("i2").tobytes()
    content = zlib.compress(content) if changes.get("CompressedData") else content
    path = write_header(tmp_path / "a.mha", content, **changes)
    for read in (read_scan, read_boxes):
        with pytest.raises(DataError, match=rf"a\.mha.*{fact}|{fact}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_streams_that_end_early_or_are_damaged(tmp_path: Path):
    packed = zlib.compress(make("i2").tobytes())
    for content in (packed[:-20], packed[:30] + b"\0\1\2" + packed[33:], b"no zlib"):
        with pytest.raises(DataError, match=r"a\.mha is truncated or damaged"):
            read_scan(write_header(tmp_path / "a.mha", content, CompressedData="True"))


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.mhd", "a.nhdr", "a.dcm"])
def test_what_does_not_fit_is_not_written(tmp_path: Path, name: str):
    values: list[np.ndarray] = [np.zeros(SHAPE, "f2"), np.zeros(SHAPE, "c8"), np.zeros((3, 4), "u1")]
    values = values if name in ("a.mha", "a.nrrd") else [np.zeros(SHAPE, "u1")]
    for array in values:
        with pytest.raises(DataError, match=r"float16|complex64|shape \(3, 4\)|ends? in|endings"):
            write_scan(tmp_path / name, array, affine=np.eye(4))
    assert list(tmp_path.iterdir()) == []


def test_nrrd_in_micrometres_and_without_a_grid(tmp_path: Path):
    import nrrd

    facts: dict[str, Any] = {
        "space": "left-posterior-superior", "space directions": np.diag([500.0, 500, 1000]), "space units": ["um"] * 3,
    }  # fmt: skip
    nrrd.write(str(tmp_path / "a.nrrd"), make("u1"), facts)
    assert open_scan(tmp_path / "a.nrrd").geometry.spacing == (0.5, 0.5, 1.0)
    nrrd.write(str(tmp_path / "b.nrrd"), make("u1"))
    assert open_source(tmp_path / "b.nrrd").spacing is None
    nrrd.write(str(tmp_path / "c.nrrd"), make("u1", (*SHAPE, 2)))
    with pytest.raises(DataError, match=r"c\.nrrd.*channels"):
        open_scan(tmp_path / "c.nrrd")


def test_slices_are_stacked_on_a_metaimage(tmp_path: Path):
    affine = np.diag([-0.5, -0.5, 3.0, 1.0])
    write_metaimage(tmp_path / "a.mha", make("i2"), affine=affine)
    path = stack_to_nifti({2: np.ones(SHAPE[:2], bool)}, tmp_path / "a.mha", tmp_path / "mask.nii.gz")
    values, geometry = read_scan(path)
    assert geometry.difference(open_scan(tmp_path / "a.mha").geometry) is None
    assert values.sum(axis=(0, 1)).tolist() == [0, 0, 12, 0, 0]


def test_a_metaimage_is_no_picture(tmp_path: Path):
    write_metaimage(tmp_path / "a.mha", make("i2"), affine=np.eye(4))
    (tmp_path / "a.mha").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png .*MetaImage"):
        read_image(tmp_path / "a.png")
