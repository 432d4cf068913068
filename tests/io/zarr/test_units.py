"""Units of length as files say them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.source import millimetres


@pytest.mark.parametrize(
    ("code", "unit", "factor"),
    [
        (1, "meter", 1000.0),
        (2, "millimeter", 1.0),
        (3, "micrometer", 0.001),
        (2 | 8, "millimeter", 1.0),
        (3 | 8, "micrometer", 0.001),
        (0, "millimeter", 1.0),
        (5, "millimeter", 1.0),  # no code of NIfTI's
    ],
)
def test_nifti_says_its_unit(tmp_path: Path, code: int, unit: str, factor: float):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([1.5, 2.5, 4.0, 1.0]))
    image.header["xyzt_units"] = code
    nib.save(image, tmp_path / "a.nii")
    source = open_source(tmp_path / "a.nii")
    assert (source.spacing, source.unit) == ((4.0, 2.5, 1.5), unit)
    assert millimetres(source) == pytest.approx((4.0 * factor, 2.5 * factor, 1.5 * factor))


@pytest.mark.parametrize("written", ["\\u00B5m", "\\u00b5m", "\\u03BCm", "um", "micron"])
def test_imagejs_own_micrometre(tmp_path: Path, written: str):
    facts = TiffImagePlugin.ImageFileDirectory_v2()
    facts[270] = f"ImageJ=1.54f\nimages=3\nslices=3\nunit={written}\nspacing=2.0\nloop=false\n"
    facts[282], facts[283] = 2.0, 4.0  # pixels per unit along x and y
    pages = [Image.fromarray(np.full((5, 4), index, np.uint16)) for index in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], tiffinfo=facts)
    source = open_source(tmp_path / "a.tif")
    assert source.shape == (1, 3, 5, 4)
    assert (source.spacing, source.unit) == ((2.0, 0.25, 0.5), "micrometer")
    assert millimetres(source) == pytest.approx((0.002, 0.00025, 0.0005))
