"""Files of other formats are named by their content, with what is read instead and the way to get there."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr

from seewhy.errors import ConfigError, DataError
from seewhy.io.checks.read_errors import recognize
from seewhy.io.image import read_image
from seewhy.io.nifti import NiftiFile
from seewhy.io.npy import read_npy
from seewhy.io.nrrd import read_nrrd
from seewhy.io.zarr.opening import open_source

VALUES = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
FORMATS = {
    "a.vol": (b"ObjectType = Image\nNDims = 3\n", "MetaImage", "SimpleITK"),
    "a.seg": (b"NRRD0004\n", "NRRD", "SimpleITK"),
    "a.dcm": (b"\0" * 128 + b"DICM", "DICOM", "dcm2niix"),
    "IM0001": (b"\0" * 128 + b"DICM", "DICOM", "dcm2niix"),
    "a.h5": (b"\x89HDF\r\n\x1a\n", "HDF5", "zarr"),
    "a.mat": (b"MATLAB 5.0 MAT-file", "MATLAB", r"\.npy"),
    "a.mgz": (gzip.compress(b"\0\0\0\x01" * 100), "MGH", "mri_convert"),
    "a.mnc": (b"CDF\x01", "MINC", "NIfTI"),
    "a.jpg": (b"\xff\xd8\xff\xe0", "JPEG", "NIfTI"),
    "a.tar.gz": (gzip.compress(b"\0" * 257 + b"ustar" + b"\0" * 250), "gzip of a tar archive", "unpack"),
    "a.raw": (b"\x01\x02\x03\x04", "unknown format", "NIfTI"),
    "empty": (b"", "empty", "NIfTI"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_volumes_of_other_formats(tmp_path: Path, name: str):
    content, kind, remedy = FORMATS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{name} .*{kind}.*seewhy reads zarr, \.nii, \.nii\.gz, \.nrrd.*{remedy}"
    ) as caught:
        open_source(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_archives_and_folders(tmp_path: Path):
    np.savez(tmp_path / "a.npz", VALUES)
    with pytest.raises(DataError, match=r"NumPy archive .*numpy\.save"):
        open_source(tmp_path / "a.npz")
    (tmp_path / "series").mkdir()
    for number in range(3):
        (tmp_path / "series" / f"IM{number}").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(DataError, match=r"folder of DICOM files.*dcm2niix"):
        open_source(tmp_path / "series")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="folder without zarr metadata"):
        open_source(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"missing\.zarr does not exist"):
        open_source(tmp_path / "missing.zarr")


@pytest.mark.parametrize("name", ["a.nii", "a.png", "a.tif", "a.npy", "a.nrrd", "a.nii.gz"])
@pytest.mark.parametrize("kind", ["HDF5", "DICOM", "MetaImage"])
def test_readers_name_a_foreign_content(tmp_path: Path, name: str, kind: str):
    (tmp_path / name).write_bytes(next(content for content, other, _ in FORMATS.values() if other == kind))
    read = {"png": read_image, "tif": read_image, "npy": read_npy, "nrrd": read_nrrd}.get(name[2:], NiftiFile)
    with pytest.raises(DataError, match=rf"{name} .*{kind}"):
        read(tmp_path / name)
    assert recognize(tmp_path / name) == kind


def test_compression_that_the_name_does_not_state(tmp_path: Path):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "packed.nii")
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "plain.nii.gz")
    for read in (NiftiFile, open_source):
        with pytest.raises(DataError, match=r"rename it to packed\.nii\.gz"):
            read(tmp_path / "packed.nii")
        with pytest.raises(DataError, match=r"rename it to plain\.nii"):
            read(tmp_path / "plain.nii.gz")


def test_pickles_are_named_by_both_ways_of_reading(tmp_path: Path):
    np.save(tmp_path / "o.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    for read in (read_npy, lambda path: read_npy(path, mmap=True), open_source):
        with pytest.raises(DataError, match=r"o\.npy is pickled"):
            read(tmp_path / "o.npy")


def test_nested_stores_are_listed(tmp_path: Path):
    zarr.create_array(str(tmp_path / "study" / "scan.zarr"), data=VALUES)
    with pytest.raises(DataError, match=r"study holds no zarr .*inside: .*study/scan\.zarr"):
        open_source(tmp_path / "study")
    for form in (2, 3):
        root = zarr.open_group(str(tmp_path / f"plate{form}.zarr"), mode="w", zarr_format=form)
        field = root.create_group("A/1/0")
        field.create_array("0", data=VALUES)
        field.attrs["multiscales"] = [{"axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}]
        with pytest.raises((DataError, ConfigError), match=rf"plate{form}\.zarr .*inside: .*plate{form}\.zarr/A/1/0$"):
            open_source(tmp_path / f"plate{form}.zarr")


@pytest.mark.parametrize("name", ["A.NII.GZ", "A.NII", "A.NPY", "A.TIF", "A.TIFF"])
def test_suffixes_in_capitals(tmp_path: Path, name: str):
    import tifffile

    if name.upper().endswith((".NII", ".GZ")):
        nib.save(nib.Nifti1Image(VALUES.T, np.eye(4)), tmp_path / name.lower())
    elif name.endswith("NPY"):
        np.save(tmp_path / name.lower(), VALUES)
    else:
        tifffile.imwrite(tmp_path / name.lower(), VALUES, photometric="minisblack")
    (tmp_path / name.lower()).rename(tmp_path / name)
    source = open_source(tmp_path / name)
    np.testing.assert_array_equal(source.read((slice(0, 2), slice(0, 3), slice(0, 4)))[0], VALUES)


def test_a_suffix_in_mixed_case_is_to_be_renamed(tmp_path: Path):
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "A.Nii.Gz")
    with pytest.raises(DataError, match=r"A\.Nii\.Gz .*rename it to a\.nii\.gz"):
        open_source(tmp_path / "A.Nii.Gz")
