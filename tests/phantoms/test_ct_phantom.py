import json

import numpy as np
import pytest
import zarr
from scipy import ndimage

from seewhy.errors import ConfigError, DataError
from seewhy.phantoms.ct import BodyRecipe, draw_body, write_ct_phantom

SMALL = {"volumes": 2, "shape": [40, 64, 64]}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_ct_phantom(tmp_path_factory.mktemp("p") / "ct", **SMALL)


@pytest.fixture(scope="module")
def bodies():
    return [
        draw_body(BodyRecipe(), shape=(64, 80, 80), spacing=(1.25, 1, 1), seed=0, number=number) for number in range(4)
    ]


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_stores_are_ome_zarr_with_spacing_and_unit(phantom):
    assert json.loads((phantom / "dataset.json").read_text())["phantom"] is True
    for part, kind in (("images", np.int16), ("labels", np.uint8)):
        group = zarr.open_group(phantom / part / "ct001.zarr", mode="r")
        assert group.metadata.zarr_format == 3
        scale = group.attrs["ome"]["multiscales"][0]
        assert [axis["unit"] for axis in scale["axes"]] == ["millimeter"] * 3
        assert scale["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.25, 1.0, 1.0]
        assert group["0"].shape == (40, 64, 64)
        assert group["0"].dtype == kind
    assert set(np.unique(group["0"][...])) == {0, 1, 2}


def test_the_same_settings_give_the_same_bytes_and_are_written_once(phantom, tmp_path):
    assert contents(write_ct_phantom(tmp_path / "again", **SMALL)) == contents(phantom)
    before = {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}
    write_ct_phantom(phantom, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in phantom.rglob("*")} == before
    with pytest.raises(DataError, match=r"seed is 0.*\b1\b"):
        write_ct_phantom(phantom, **SMALL, seed=1)


def test_no_window_of_intensities_finds_a_class(bodies):
    """The best of all windows, chosen with the labels at hand, stays far below what shape can tell."""
    for label in (1, 2):
        scores = []
        for body in bodies:
            values = body.image.clip(-1000, 999)
            inside, outside = (
                np.bincount(values[part].ravel() + 1000, minlength=2000)
                for part in (body.label == label, body.label != label)
            )
            hit, false = (np.concatenate([[0], np.cumsum(one)]) for one in (inside, outside))
            found, wrong = hit[None] - hit[:, None], false[None] - false[:, None]
            scores.append((2 * found / np.maximum(found + wrong + hit[-1], 1)).max())
        assert np.mean(scores) < 0.5


def test_the_vessel_is_one_piece_and_nodules_are_solid(bodies):
    for body in bodies:
        assert ndimage.label(body.label == 2, np.ones((3, 3, 3)))[1] == 1
        nodules = body.label == 1
        assert not (ndimage.binary_fill_holes(nodules) & ~nodules).any()


@pytest.mark.parametrize("wrong", [{"volumes": 0}, {"shape": [8, 64, 64]}, {"shape": [64, 64]}, {"spacing": [0, 1, 1]}])
def test_numbers_that_draw_nothing_are_refused(wrong, tmp_path):
    with pytest.raises(ConfigError, match="phantom"):
        write_ct_phantom(tmp_path / "ct", **{**SMALL, **wrong})
