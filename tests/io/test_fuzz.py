"""Every reader gives a result or one of seewhy's errors, whatever bytes a file holds."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import yaml
import zarr
from hostile import FUZZ, changed, damaged
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seewhy.data.table import read_table
from seewhy.errors import SeewhyError
from seewhy.io.documents import read_csv, read_json
from seewhy.io.image import image_shape, read_image
from seewhy.io.nifti import NiftiFile, read_nifti
from seewhy.io.npy import read_npy, read_npz
from seewhy.io.nrrd import nrrd_geometry, read_nrrd
from seewhy.io.zarr.opening import open_source
from seewhy.run.saved_config import load_plain_yaml

VOLUME = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def read_box(path):
    """Open a volume and read all of it, as a prediction does."""
    source = open_source(path)
    z, y, x = (slice(0, min(size, 64)) for size in source.shape[1:])
    return source.read((z, y, x))


def write_nrrd(path, encoding):
    nrrd.write(str(path), VOLUME, {"encoding": encoding})


WRITERS = {
    "a.npy": lambda path: np.save(path, VOLUME),
    "a.npz": lambda path: np.savez_compressed(path, a=VOLUME, b=VOLUME[0]),
    "a.nii": lambda path: nib.save(nib.Nifti1Image(VOLUME, np.diag([1, 2, 3, 1])), path),
    "a.nii.gz": lambda path: nib.save(nib.Nifti1Image(VOLUME, np.diag([1, 2, 3, 1])), path),
    "raw.nrrd": lambda path: write_nrrd(path, "raw"),
    "gzip.nrrd": lambda path: write_nrrd(path, "gzip"),
    "text.nrrd": lambda path: write_nrrd(path, "ascii"),
    "a.png": lambda path: Image.fromarray(VOLUME[0].astype(np.uint8)).save(path),
    "a.tif": lambda path: Image.fromarray(VOLUME[0].astype(np.uint8)).save(path),
    "a.csv": lambda path: path.write_text('id,label,score\nP1,1,0.5\n\'=x,"a,b",\n'),
    "a.json": lambda path: path.write_text(json.dumps({"a": [1, 2.5, None], "b": {"c": "d"}})),
    "a.yaml": lambda path: path.write_text(yaml.safe_dump({"config": {"data": {"a": [1, 2]}, "model": None}})),
}
READERS = {
    ".npy": (read_npy, lambda path: read_npy(path, mmap=True), read_box),
    ".npz": (read_npz,),
    ".nii": (read_nifti, read_box),
    ".gz": (read_nifti, read_box, lambda path: NiftiFile(path).read_slice(0)),
    ".nrrd": (read_nrrd, nrrd_geometry),
    ".png": (read_image, image_shape),
    ".tif": (read_image, image_shape, read_box),
    ".csv": (read_csv, read_table),
    ".json": (read_json,),
    ".yaml": (load_plain_yaml,),
}


def read_all(path):
    for read in READERS[path.suffix]:
        try:
            read(path)
        except SeewhyError as error:
            assert str(error)  # noqa: PT017


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    content = path.read_bytes()
    packed = name.endswith(".gz")

    @FUZZ
    @given(st.data())
    def check(data):
        inside = packed and data.draw(st.booleans())
        result = data.draw(damaged(gzip.decompress(content) if inside else content))
        path.write_bytes(gzip.compress(result) if inside else result)
        read_all(path)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_arbitrary_bytes(tmp_path, name):
    path = tmp_path / name

    @FUZZ
    @given(st.binary(max_size=400))
    def check(content):
        path.write_bytes(content)
        read_all(path)

    check()


def write_pyramid(folder, form):
    group = zarr.create_group(str(folder), zarr_format=form)
    array = group.create_array("0", shape=(4, 4, 4), chunks=(2, 2, 2), dtype="u1")
    array[:] = 1
    scale = [{"type": "scale", "scale": [1, 1, 2]}, {"type": "translation", "translation": [0, 0, 0]}]
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    entry = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}], "version": "0.4"}
    group.attrs.update({"multiscales": [entry]} if form == 2 else {"ome": {"version": "0.5", "multiscales": [entry]}})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "name"), [(3, "zarr.json"), (3, "0/zarr.json"), (2, ".zattrs"), (2, "0/.zarray"), (2, ".zgroup")]
)
def test_changed_metadata_of_a_pyramid(tmp_path, form, name):
    folder = tmp_path / "scan.zarr"
    write_pyramid(folder, form)
    record = json.loads((folder / name).read_text())

    @FUZZ
    @given(changed(record))
    def check(content):
        (folder / name).write_text(json.dumps(content))
        try:
            read_box(folder)
        except SeewhyError as error:
            assert "scan.zarr" in str(error)  # noqa: PT017

    check()


def test_fuzz_knows_every_format(tmp_path):
    """Undamaged files are read, so that the fuzz above does not test the refusal of its own files."""
    for name, write in WRITERS.items():
        path = tmp_path / name
        write(path)
        for read in READERS[path.suffix]:
            read(Path(path))
