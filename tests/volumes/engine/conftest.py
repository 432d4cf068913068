"""Processes that predict from zarr to zarr, and can be killed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from seewhy.io.zarr.sink import open_sink

SCRIPT = Path(__file__).with_name("killed.py")


@pytest.fixture
def nursery():
    """Asks the script and gives its answer."""
    source = str(Path(__file__).resolve().parents[3] / "src")
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": source},
    )

    def ask(*words):
        process.stdin.write(" ".join(map(str, words)) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield ask
    process.stdin.close()
    assert process.wait() == 0


@pytest.fixture
def stored():
    """Reads what a process has written."""
    return _read_stored


def _read_stored(folder):
    """Every file of the result but the notes, and but for the identity that each store has: path → bytes."""
    root = folder / "out.zarr"
    identity = open_sink(root).identity.encode()
    return {
        str(path.relative_to(root)): path.read_bytes().replace(identity, b"")
        for path in root.rglob("*")
        if path.is_file() and ".seewhy" not in path.parts
    }


@pytest.fixture
def folder(tmp_path):
    """Two folders with one volume, whose files are equally old."""
    values = (1000 * np.random.default_rng(0).random((96, 64, 64))).astype(np.uint16)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        array = zarr.create_array(tmp_path / name / "in.zarr", shape=values.shape, dtype=values.dtype, chunks=(32,) * 3)
        array[:] = values
        for file in sorted((tmp_path / name / "in.zarr").rglob("*")):
            os.utime(file, (1e9, 1e9))
    return tmp_path
