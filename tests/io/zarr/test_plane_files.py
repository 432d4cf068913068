"""Folders with one plane per file: planes that are missing, doubled or of another kind are named, never left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from seewhy.errors import DataError
from seewhy.io.zarr.opening import open_source


def write(folder: Path, *names: str, dtype: type = np.uint8) -> Path:
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names):
        tifffile.imwrite(folder / name, np.full((2, 3), value, dtype))
    return folder


def planes(folder: Path) -> list[int]:
    source = open_source(folder)
    return source.read(tuple(slice(0, size) for size in source.shape[1:]))[0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    "names",
    [
        ("z1.tif", "z2.tif", "z3.tif", "z10.tif")[:3],
        ("z000.tif", "z005.tif", "z010.tif", "z015.tif"),
        ("a.tif", "b.tif", "d.tif"),
        ("s2_z1.tif", "s2_z2.tif", "s2_z3.TIF"),
        ("only.tiff",),
        ("z9.tif", "z10.tif", "z11.TIFF"),
        ("t1_z1.tif", "t1_z4.tif", "t2_z1.tif"),
    ],
)
def test_complete_folders_are_read_in_natural_order(tmp_path: Path, names: tuple[str, ...]):
    assert planes(write(tmp_path / "planes", *names)) == list(range(len(names)))


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        (("z1.tif", "z2.tif", "z4.tif", "z5.tif", "z8.tif"), "planes 3, 6, 7 are missing between z1.tif and z8.tif"),
        (("z010.tif", "z020.tif", "z040.tif"), "planes 30 are missing"),
        (("z1.tif", "Z1.TIF", "z2.tif"), "one plane twice"),
        (("z1.tif", "z1.tiff", "z2.tif"), "z1.tif.* one plane twice"),
        (("z1.tif", "z01.tif", "z2.tif"), "have one number"),
    ],
)
def test_gaps_and_twins_are_named(tmp_path: Path, names: tuple[str, ...], fact: str):
    with pytest.raises(DataError, match=f"planes: .*{fact}"):
        open_source(write(tmp_path / "planes", *names))


def test_hidden_files_are_left_out_with_a_warning_and_other_pictures_refused(tmp_path: Path):
    folder = write(tmp_path / "planes", "z1.tif", "z2.tif")
    (folder / "._z1.tif").write_bytes(b"\0\5\x16\7")
    (folder / "settings.txt").write_text("kV 90")
    with pytest.warns(UserWarning, match=r"planes: left out \._z1\.tif"):
        assert planes(folder) == [0, 1]
    (folder / "z3.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match=r"z3\.png between the planes"):
        open_source(folder)


def test_planes_of_another_type_are_named(tmp_path: Path):
    folder = write(tmp_path / "planes", "z1.tif", "z2.tif")
    tifffile.imwrite(folder / "z3.tif", np.full((2, 3), 300, np.uint16))
    with pytest.raises(DataError, match=r"z3\.tif has type uint16; expected uint8"):
        planes(folder)
    write(folder, "z3.tif")
    tifffile.imwrite(folder / "z4.tif", np.zeros((2, 2, 3), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"z4\.tif has 2 pages"):
        planes(folder)
