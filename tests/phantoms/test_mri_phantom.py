import csv
import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from seewhy.errors import ConfigError, DataError
from seewhy.phantoms.mri import LABEL, HeadRecipe, draw_head, write_mri_phantom

SMALL = {"cases": 4, "shape": [28, 32, 28]}
SHAPE = (36, 42, 36)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    return write_mri_phantom(tmp_path_factory.mktemp("p") / "mri", **SMALL)


@pytest.fixture(scope="module")
def heads():
    """Heads, each of them sound, ill on the left and ill on the right."""
    return [
        {ill: draw_head(HeadRecipe(), shape=SHAPE, ill=ill, seed=0, number=number) for ill in (None, "left", "right")}
        for number in range(20)
    ]


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows(root):
    with (root / "cases.csv").open() as file:
        return list(csv.DictReader(file))


def test_files_are_those_of_a_real_data_set(phantom):
    table = rows(phantom)
    assert [row[LABEL] for row in table] == ["HC", "left", "HC", "right"]
    for row in table:
        image, mask = (nib.load(phantom / row[column]) for column in ("file", "mask"))
        assert image.shape == mask.shape == (28, 32, 28)
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
        np.testing.assert_array_equal(image.affine, mask.affine)
        np.testing.assert_allclose(image.header.get_zooms(), 3.0)
        assert image.get_data_dtype() == np.int16
        assert bool(np.asarray(mask.dataobj).any()) == (row[LABEL] != "HC")
    assert json.loads((phantom / "dataset.json").read_text())["phantom"] is True


def test_the_ill_region_is_on_the_side_that_the_label_says(phantom):
    for row in rows(phantom):
        mask = nib.load(phantom / row["mask"])
        if row[LABEL] != "HC":
            right = (mask.affine @ [*ndimage.center_of_mass(np.asarray(mask.dataobj)), 1])[0]
            assert right > 5 if row[LABEL] == "right" else right < -5  # in RAS+ millimetres


def test_same_seed_same_bytes_and_no_head_depends_on_how_many_there_are(phantom, tmp_path):
    assert contents(write_mri_phantom(tmp_path / "again", **SMALL)) == contents(phantom)
    other = contents(write_mri_phantom(tmp_path / "other", **SMALL, seed=1))
    assert other != contents(phantom)
    fewer = contents(write_mri_phantom(tmp_path / "fewer", **{**SMALL, "cases": 2}))
    same = [path for path in fewer if path.suffix == ".gz"]
    assert len(same) == 4
    assert all(fewer[path] == contents(phantom)[path] for path in same)


def test_reused_when_equal_refused_when_not(phantom):
    before = {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}
    assert write_mri_phantom(phantom, **SMALL) == phantom
    assert before == {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}
    with pytest.raises(DataError, match=r"seed is 0.*\b3\b"):
        write_mri_phantom(phantom, **SMALL, seed=3)


@pytest.mark.parametrize(
    "options", [{"cases": 0}, {"shape": [8, 8, 8]}, {"seed": -1}, {"shape": [48, 48]}, {"spacing": 0}]
)
def test_numbers_are_checked(tmp_path, options):
    with pytest.raises(ConfigError, match=rf"phantom\.{next(iter(options))}"):
        write_mri_phantom(tmp_path / "p", **options)


def test_illness_changes_one_region_and_nothing_else(heads):
    for head in heads:
        sound = head[None].image.astype(float)
        assert not head[None].region.any()
        for side in ("left", "right"):
            region = head[side].region.astype(bool)
            change = np.abs(head[side].image - sound)
            assert change[~ndimage.binary_dilation(region, iterations=6)].max() < 0.03 * change.max()
            assert change[ndimage.binary_dilation(region)].sum() > 0.85 * change.sum()


def test_regions_of_the_two_sides_are_apart_and_as_large(heads):
    sizes = {side: [int(head[side].region.sum()) for head in heads] for side in ("left", "right")}
    assert 0.8 < np.mean(sizes["left"]) / np.mean(sizes["right"]) < 1.25
    assert all(100 < size < 2000 for own in sizes.values() for size in own)
    for head in heads:
        assert not (head["left"].region & head["right"].region).any()


def area_under_curve(sound, ill):
    return np.mean(np.greater.outer(ill, sound))


def test_brightness_of_the_whole_head_tells_little(heads):
    """Spots as bright as an ill region are in everybody, and gain differs more than illness adds."""

    def bright(image):
        tissue = np.median(image[image > 300])
        return [*np.percentile(image, [50, 99, 99.9]), (image > 1.5 * tissue).mean()]

    half = len(heads) // 2  # different heads, as in a data set
    sound, ill = (
        [bright(head[kind].image) for head in part] for kind, part in ((None, heads[:half]), ("left", heads[half:]))
    )
    for one, other in zip(np.transpose(sound), np.transpose(ill), strict=True):
        assert 0.2 < area_under_curve(one, other) < 0.8


def test_the_region_itself_tells_who_is_ill(heads):
    """How bright and uneven the region is separates sound heads from ill ones, whatever the gain."""

    def spread(head, kind):
        image = head[kind].image.astype(float)
        return image[head["left"].region > 0].std() / np.median(image[image > 300])

    assert area_under_curve([spread(head, None) for head in heads], [spread(head, "left") for head in heads]) > 0.95
