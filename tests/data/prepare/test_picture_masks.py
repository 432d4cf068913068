"""Which pixels of mask pictures belong to the region: decided for a whole data set, or refused by name."""

import csv

import numpy as np
import pytest
from PIL import Image

from seewhy.data.prepare import prepare_lasc
from seewhy.data.prepare.picture_masks import find_mask_level
from seewhy.errors import DataError


def blocks(*values, dtype=np.uint8):
    array = np.zeros((24, 24), dtype)
    for place, value in enumerate(values):
        array[4 + 6 * place : 8 + 6 * place, 4:12] = value
    return array


def blurred(top=255):
    """A block with an edge of a third and of two thirds of its brightness."""
    array = blocks(top)
    array[3, 4:12], array[8, 4:12] = top // 3, 2 * top // 3
    return array


def coloured(values, colour):
    return (values[..., None] / 255 * colour).astype(np.uint8)


def level_of(tmp_path, *masks):
    paths = []
    for number, mask in enumerate(masks):
        paths.append(tmp_path / f"m{number}.png")
        (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(paths[-1])
    return find_mask_level(paths)


def palette(colour):
    picture = Image.frombytes("P", (24, 24), blocks(1).tobytes())
    picture.putpalette([0, 0, 0, *colour] + [0] * 750)
    return picture


EMPTY = np.zeros((24, 24), np.uint8)


@pytest.mark.parametrize(
    "masks",
    [
        [blocks(255)], [blocks(1)], [blocks(2)], [blocks(100), EMPTY], [blocks(1), blocks(255)],
        [blocks(65535, dtype=np.uint16)], [palette((90, 20, 30))], [coloured(blocks(255), (200, 0, 0))], [EMPTY],
    ],
    ids=["0 255", "0 1", "0 2", "0 100", "0 1 and 0 255", "16 bits", "dark palette", "red", "empty"],
)  # fmt: skip
def test_one_value_is_the_region_whatever_it_is(masks, tmp_path):
    assert level_of(tmp_path, *masks) == 0


@pytest.mark.parametrize("top", [255, 200])
def test_interpolated_edges_end_at_half_of_the_range_in_every_slice(top, tmp_path):
    assert level_of(tmp_path, blurred(top), blocks(top)) == top / 2
    assert level_of(tmp_path, coloured(blurred(), (255, 0, 255)), EMPTY[..., None].repeat(3, -1)) == 255 / 2


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ([blocks(1), blocks(1, 2)], "values 0, 1, 2, e.g. m"),
        ([blocks(1), blocks(2)], "values 0, 1, 2"),
        ([blocks(128), blocks(255)], "values 0, 128, 255, e.g. m0.png"),
        ([blurred(), blocks(1)], "values 0, 1, 255, e.g. m1.png"),
        ([coloured(blocks(255), (255, 0, 0)), coloured(blocks(255), (0, 255, 0))], "(255, 0, 0) and (0, 255, 0)"),
        ([255 - blocks(255)], "m0.png: all corners"),
    ],
)
def test_classes_are_refused_by_their_values(masks, said, tmp_path):
    with pytest.raises(DataError) as caught:
        level_of(tmp_path, *masks)
    assert said in str(caught.value)


def test_a_prepared_data_set_is_labelled_or_nothing_is_written(tmp_path):
    for folder, arrays in {"images": [blocks(7, 9)] * 2, "masks": [blocks(100), EMPTY]}.items():
        (tmp_path / "in" / folder).mkdir(parents=True)
        for number, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / "in" / folder / f"p1_{number}.png")
    prepare_lasc(tmp_path / "in", tmp_path / "out", progress=False)
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        assert [(row["label"], row["area"]) for row in csv.DictReader(file)] == [("1", "32"), ("0", "0")]
    Image.fromarray(blocks(1, 2)).save(tmp_path / "in" / "masks" / "p1_1.png")
    with pytest.raises(DataError, match="nothing was written"):
        prepare_lasc(tmp_path / "in", tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def test_pictures_that_are_passed_over_are_named(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(blocks(100)).save(tmp_path / "in" / folder / f"p1_{number}.PNG", format="png")
    for name in ("images/p1_2.jpg", "images/._p1_0.PNG", "masks/p1_7.png"):
        (tmp_path / "in" / name).write_bytes(b"x")
    summary = prepare_lasc(tmp_path / "in", tmp_path / "out", progress=False)
    assert summary.slices == 2
    assert set(summary.left_out) == {"p1_2", "images/._p1_0.PNG", "masks/p1_7.png"}  # p1_2 has no mask
    (tmp_path / "in" / "masks" / "p1_0.tif").write_bytes(b"x")
    with pytest.raises(DataError, match=r"p1_0\.PNG and p1_0\.tif have one name"):
        prepare_lasc(tmp_path / "in", tmp_path / "other", progress=False)
