"""Files that a server must refuse: damaged, hostile, or of another kind than expected; each is made as bytes."""

import io
import json
import pickle
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image


class Bomb:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def png(shape=(32, 32), dtype=np.uint8, mode=None):
    array = (np.arange(int(np.prod(shape))).reshape(shape) % 251).astype(dtype)
    return save(Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode), "PNG")


def save(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def huge_png(side, *, filled):
    """A PNG whose header announces a side; its values are there, or missing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(side + 1)
    values = b"".join(packer.compress(row) for _ in range(side if filled else 1)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", values) + chunk(b"IEND", b"")


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def announcing_npy(shape, dtype="<f4"):
    """An array file of a few bytes whose header announces a shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + b"\0" * 64


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def nifti(array, affine=None):
    return nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_bytes()


def lost_nifti(array):
    """A NIfTI whose affine has a row that is no number."""
    content = bytearray(nifti(array))
    content[280:296] = struct.pack("<4f", *[float("nan")] * 4)
    return bytes(content)


def announcing_nifti(shape):
    """A NIfTI of a few bytes whose header announces a shape."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header["dim"][:] = [len(shape), *shape, *[1] * (7 - len(shape))]
    header["vox_offset"] = 352
    return header.binaryblock + b"\0" * 68


def zipped(files, *, mode=None):
    """A zip file of name → content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if mode is not None:
                entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def zarr_metadata(shape=(4, 4, 4), chunk=(4, 4, 4), codecs=("bytes",)):
    record = {
        "zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": "uint8", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": name} for name in codecs], "attributes": {},
    }  # fmt: skip
    return json.dumps(record).encode()


def encrypted_zip():
    """A zip file whose entry has the flag of encryption."""
    content = bytearray(zipped({"zarr.json": zarr_metadata()}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def crowded_zip():
    """The end of a zip file that announces 65535 files in a list of 4 GB."""
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFF0, 0, 0)


def linked_zip():
    return zipped({"a.zarr": b"/etc"}, mode=stat.S_IFLNK | 0o777)


def pickled():
    return pickle.dumps(Bomb())


def tiff(pages):
    images = [Image.fromarray(np.full((16, 16), 40 * i, np.uint8)) for i in range(pages)]
    return save(images[0], "TIFF", save_all=True, append_images=images[1:])


def nrrd(data_file):
    text = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: {data_file}\n\n"
    return text.encode()


def metaimage(data_file):
    lines = ["ObjectType = Image", "NDims = 3", "DimSize = 4 4 4", "ElementType = MET_UCHAR"]
    return "\n".join([*lines, f"ElementDataFile = {data_file}", ""]).encode()


def mutate(content, rng):
    """A file with some bytes changed, removed, added or cut off, mostly in its header; `rng` is a `random.Random`."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(min(len(changed), 400) if rng.random() < 0.7 else len(changed))
        kind = rng.choice(["value", "value", "remove", "add", "cut", "number"])
        if kind == "value":
            changed[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind == "remove":
            del changed[at : at + rng.choice([1, 4, 100])]
        elif kind == "add":
            changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 50])))
        elif kind == "cut":
            del changed[max(1, at) :]
        else:
            changed[at : at + 4] = rng.choice([b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0", b"\xff\xff\xff\xff"])
        changed = changed or bytearray(b"x")
    return bytes(changed)
