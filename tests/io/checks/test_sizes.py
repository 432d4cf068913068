"""Sizes in headers are compared with what is stored, and paths that are no files are refused at once."""

import bz2
import gzip
import os
import struct
import threading
import zipfile
import zlib

import nibabel as nib
import numpy as np
import pytest

from seewhy.errors import DataError
from seewhy.io.checks import sizes
from seewhy.io.image import image_shape, read_image
from seewhy.io.nifti import NiftiFile, read_nifti
from seewhy.io.npy import read_npy, read_npz
from seewhy.io.nrrd import nrrd_geometry, read_nrrd
from seewhy.io.zarr.opening import open_source

HUGE = 10**12


def npy_header(shape, dtype="<f4"):
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def nifti_bytes(shape, *, dims=None, values=b""):
    header = nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)).header
    header.set_data_offset(352)
    content = bytearray(header.binaryblock + bytes(4))
    if dims is not None:
        content[40:56] = struct.pack("<8h", *dims)
    return bytes(content) + values


def nrrd_text(sizes, encoding="raw", **fields):
    lines = ["NRRD0004", "type: uchar", f"dimension: {len(sizes)}", f"sizes: {' '.join(map(str, sizes))}"]
    lines += [f"encoding: {encoding}", *(f"{key.replace('_', ' ')}: {value}" for key, value in fields.items())]
    return ("\n".join(lines) + "\n\n").encode()


def ascii_numbers(values):
    return " ".join(map(str, values)).encode()


def png_bytes(width, height):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


MANY = nifti_bytes((2, 2, 2), dims=(3, 32000, 32000, 32000, 1, 1, 1, 1))
FILES = {
    "huge.npy": (read_npy, npy_header((HUGE, HUGE))),
    "more.npy": (read_npy, npy_header((3, 3)) + bytes(35)),
    "negative.npy": (read_npy, npy_header((-1, 3)) + bytes(36)),
    "objects.npy": (read_npy, npy_header((3,), "|O") + bytes(24)),
    "many.nii": (NiftiFile, MANY),
    "many.nii.gz": (NiftiFile, gzip.compress(MANY)),
    "negative.nii": (NiftiFile, nifti_bytes((2, 2, 2), dims=(3, -2, 2, 2, 1, 1, 1, 1), values=bytes(8))),
    "cut.nii": (NiftiFile, nifti_bytes((2, 2, 2), values=bytes(7))),
    "many.nrrd": (read_nrrd, nrrd_text((HUGE, HUGE, HUGE)) + bytes(8)),
    "many_packed.nrrd": (read_nrrd, nrrd_text((HUGE, 1, 1), "gzip") + gzip.compress(bytes(8))),
    "many_text.nrrd": (read_nrrd, nrrd_text((HUGE, 1, 1), "ascii") + b"1 2 3"),
    "unpacks.nrrd": (read_nrrd, nrrd_text((2, 2, 2), "gzip") + gzip.compress(bytes(1 << 20))),
    "lines.nrrd": (read_nrrd, nrrd_text((2, 2, 2), line_skip=HUGE) + bytes(8)),
    "skips.nrrd": (read_nrrd, nrrd_text((2, 2, 2), "gzip", byte_skip=HUGE) + gzip.compress(bytes(8))),
    "cut.nrrd": (read_nrrd, nrrd_text((2, 2, 2), "gzip") + gzip.compress(bytes(7))),
    "empty.nrrd": (read_nrrd, nrrd_text((0, 2, 2))),
    "negative.nrrd": (nrrd_geometry, nrrd_text((-2, -2, 2)) + bytes(8)),
    "bomb.png": (read_image, png_bytes(20000, 20000)),
    "bomb_header.png": (image_shape, png_bytes(20000, 20000)),
    "hollow.png": (read_image, png_bytes(9000, 9000)),
}


@pytest.mark.parametrize("name", FILES)
def test_announced_sizes_are_compared_with_the_file(tmp_path, name):
    read, content = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize(("members", "sizes_lie"), [({"a.npy": npy_header((HUGE,))}, False), ({"a.npy": b"no"}, False)])
def test_members_of_an_archive_are_checked(tmp_path, members, sizes_lie):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match=r"a\.npz"):
        read_npz(tmp_path / "a.npz")


def test_archives_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", image=np.arange(6.0).reshape(2, 3), name=np.array(["x"]))
    arrays = read_npz(tmp_path / "a.npz")
    assert list(arrays) == ["image", "name"]
    assert arrays["image"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_stream_that_unpacks_to_more_than_its_header_announces_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes((2, 2, 2), values=bytes(8)) + bytes(1 << 20)))
    with pytest.raises(DataError, match=r"bomb\.nii\.gz unpacks to more"):
        open_source(path)
    path.write_bytes(gzip.compress(nifti_bytes((2, 2, 2), values=bytes(range(8))) + bytes(512)))
    values = open_source(path).read((slice(0, 2), slice(0, 2), slice(0, 2)))
    assert values.ravel().tolist() == list(range(8))


def test_packed_volumes_are_read_whatever_their_ratio(tmp_path):
    """An empty mask packs a thousand times smaller, with bzip2 far more."""
    for encoding, pack in (("gzip", gzip.compress), ("bz2", bz2.compress)):
        (tmp_path / "mask.nrrd").write_bytes(nrrd_text((64, 64, 64), encoding) + pack(bytes(64**3)))
        assert read_nrrd(tmp_path / "mask.nrrd")[0].shape == (64, 64, 64)
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 64), np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    assert not read_nifti(tmp_path / "mask.nii.gz")[0].any()
    assert open_source(tmp_path / "mask.nii.gz").shape == (1, 64, 64, 64)
    np.savez_compressed(tmp_path / "mask.npz", mask=np.zeros((64, 64, 64), np.uint8))
    assert not read_npz(tmp_path / "mask.npz")["mask"].any()


def test_values_beyond_this_machines_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "physical_memory", lambda: 100)
    np.save(tmp_path / "a.npy", np.zeros(101, np.uint8))
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "a.nrrd").write_bytes(nrrd_text((5, 5, 5)) + bytes(125))
    for read, name in ((read_npy, "a.npy"), (read_nifti, "a.nii.gz"), (read_nrrd, "a.nrrd")):
        with pytest.raises(DataError, match=rf"{name}.*memory"):
            read(tmp_path / name)
    assert read_npy(tmp_path / "a.npy", mmap=True).shape == (101,)
    assert NiftiFile(tmp_path / "a.nii.gz").read_slice(2).shape == (5, 5)


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.raw", "sub/secret.raw", "LIST", "..", "s%03d.raw 1 2 1"])
def test_detached_header_opens_no_other_folder(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(8))
    header = tmp_path / "data" / "scan.nhdr"
    header.write_bytes(nrrd_text((2, 2, 2), data_file=name))
    with pytest.raises(DataError, match=r"scan\.nhdr|s%03d"):
        read_nrrd(header)


@pytest.mark.parametrize(
    ("encoding", "pack"), [("raw", bytes), ("gzip", gzip.compress), ("bz2", bz2.compress), ("ascii", ascii_numbers)]
)
@pytest.mark.parametrize("skip", [{}, {"line_skip": 1}])
def test_detached_header_reads_the_file_next_to_it(tmp_path, encoding, pack, skip):
    (tmp_path / "scan.raw").write_bytes((b"a line\n" if skip else b"") + pack(bytes(range(8))))
    (tmp_path / "scan.nhdr").write_bytes(nrrd_text((2, 2, 2), encoding, data_file="scan.raw", **skip))
    values, geometry = read_nrrd(tmp_path / "scan.nhdr")
    assert values[:, 0, 0].tolist() == [0, 1]
    assert values[0, 0].tolist() == [0, 4]
    assert geometry.shape == (2, 2, 2)


READERS = {
    "a.npy": read_npy, "a.npz": read_npz, "a.nii": NiftiFile, "a.nii.gz": NiftiFile, "a.nrrd": read_nrrd,
    "a.png": read_image, "a.tif": read_image,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_pipes_devices_and_folders_are_refused_at_once(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for read in (
        READERS[name],
        *([open_source] if not name.endswith((".npz", ".nrrd", ".png")) and kind != "folder" else []),
    ):
        assert kind in in_a_thread(read, path)


def in_a_thread(read, path):
    """The error of a reader; a reader that waits for ever fails the test instead of stopping it."""
    errors = []

    def work():
        try:
            read(path)
        except DataError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), f"{read} waits for {path}"
    return errors[0]
