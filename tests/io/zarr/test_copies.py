"""Files that are copied or unpacked before they are read: how often, for how long, and what tells them apart."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import flaky_server
import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from seewhy.io.zarr import mapped as volume_nifti
from seewhy.io.zarr import opening as volume_remote
from seewhy.io.zarr.opening import open_source

WHOLE = (slice(0, 6), slice(0, 5), slice(0, 4))
VALUES = np.random.default_rng(0).integers(0, 999, (6, 5, 4)).astype(np.int16)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made, and no copies of other tests."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(volume_nifti, "UNPACKED", {})
    monkeypatch.setattr(volume_remote, "COPIES", {})
    return folder


def write(path: Path, values: np.ndarray) -> None:
    if path.name.endswith(".npy"):
        np.save(path, values)
    elif path.name.endswith(".tif"):
        pages = [Image.fromarray(plane.astype(np.uint16)) for plane in values]
        pages[0].save(path, save_all=True, append_images=pages[1:])
    else:
        nib.save(nib.Nifti1Image(values.T, np.eye(4)), path)


def serving(folder: Path):
    pytest.importorskip("aiohttp")
    return flaky_server.serving(folder, every=0)


@pytest.mark.parametrize("name", ["a.npy", "a.nii", "a.nii.gz", "a.tif"])
def test_a_remote_file_is_the_same_volume_in_every_process(tmp_path: Path, temporary: Path, name: str):
    write(tmp_path / name, VALUES)
    with serving(tmp_path) as server:
        address = f"{server.address}/{name}"
        source = open_source(address, options={"backoff": 0.001})
        assert source.path == address
        np.testing.assert_array_equal(source.read(WHOLE)[0], VALUES)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(WHOLE)[0], VALUES)
        volume_remote.COPIES.clear()  # as another process, or a run that goes on
        again = open_source(address, options={"backoff": 0.001})
        assert again._file != source._file
        assert again.identity() == source.identity()
        os.utime(tmp_path / name, ns=(1, 1))
        write(tmp_path / name, VALUES[::-1])
        assert open_source(address, options={"backoff": 0.001}).identity() != source.identity()


def test_a_remote_file_is_copied_once_where_its_version_is_told(temporary: Path, tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for count, values in enumerate((VALUES, VALUES + 1), start=1):
        write(tmp_path / "a.npy", values)
        files.pipe_file("/volumes/a.npy", (tmp_path / "a.npy").read_bytes())
        for _ in range(3):
            np.testing.assert_array_equal(open_source("memory://volumes/a.npy").read(WHOLE)[0], values)
        assert len(list(temporary.iterdir())) == count


def test_a_packed_file_is_unpacked_once_until_it_changes(tmp_path: Path, temporary: Path):
    write(tmp_path / "a.nii.gz", VALUES)
    for _ in range(3):
        np.testing.assert_array_equal(open_source(tmp_path / "a.nii.gz").read(WHOLE)[0], VALUES)
    assert len(list(temporary.iterdir())) == 1
    write(tmp_path / "a.nii.gz", VALUES + 1)
    os.utime(tmp_path / "a.nii.gz", ns=(1, 1))
    np.testing.assert_array_equal(open_source(tmp_path / "a.nii.gz").read(WHOLE)[0], VALUES + 1)
    assert len(list(temporary.iterdir())) == 2


CHILDREN = """
import multiprocessing, os, sys
from pathlib import Path
from seewhy.io.zarr.opening import open_source

BOX = (slice(0, 6), slice(0, 5), slice(0, 4))

def count():
    return len([one for one in Path(os.environ["TMPDIR"]).iterdir() if one.name.startswith("seewhy-")])

def read(first, other, queue):
    first.read(BOX)
    open_source(other).read(BOX)
    queue.put(count())

if __name__ == "__main__":
    first = open_source(sys.argv[1])
    for method, most in (("fork", 2), ("spawn", 3)):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=read, args=(first, sys.argv[2], queue))
        child.start()
        assert queue.get(timeout=60) == most, method
        child.join()
        assert child.exitcode == 0
        assert count() == 1, method  # the child's copies are gone, the parent's is not
    first.read(BOX)
"""


def test_copies_end_with_the_process_that_made_them(tmp_path: Path):
    (tmp_path / "temporary").mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        write(tmp_path / name, VALUES)
    (tmp_path / "children.py").write_text(CHILDREN)
    command = [sys.executable, str(tmp_path / "children.py"), str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz")]
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(tmp_path / "temporary")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [one for one in (tmp_path / "temporary").iterdir() if one.name.startswith("seewhy-")]


@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
def test_pages_in_any_order_open_their_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression):
    pages = [Image.fromarray(np.full((3, 2), index, np.uint16)) for index in range(40)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    opened, plain = [], tifffile.TiffFile
    monkeypatch.setattr(tifffile, "TiffFile", lambda *args, **options: opened.append(args) or plain(*args, **options))
    source = open_source(tmp_path / "a.tif")
    for page in [*range(40), 7, 39, 0, 21]:
        assert (source.read((slice(page, page + 1), slice(0, 3), slice(0, 2))) == page).all()
    assert len(opened) == 2  # for its description, and for its pages
    again = pickle.loads(pickle.dumps(source))
    assert (again.read((slice(5, 6), slice(0, 3), slice(0, 2))) == 5).all()
    assert len(opened) == 3
