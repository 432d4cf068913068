import itertools
import json
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from seewhy.errors import DataError
from seewhy.io.placement import Placement


@st.composite
def placements(draw, resize):
    """A source of two or three axes with any axis in front, any crop, padding and perhaps new sizes."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=3)))
    axis = draw(st.one_of(st.none(), st.integers(0, len(shape) - 1)))
    order = Placement(source="", shape=shape, axis=axis).full_grid
    crop = []
    for length in order:
        start = draw(st.integers(0, length - 1))
        crop.append((start, draw(st.integers(start + 1, length))))
    size = tuple(draw(st.integers(1, 12)) for _ in order) if resize else ()
    pad = tuple(draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in order)
    return Placement(source="", shape=shape, axis=axis, crop=tuple(crop), size=size, pad=pad)


@given(placements(resize=False), st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None)
def test_without_resize_the_way_back_is_exact(placement, order):
    array = np.random.default_rng(0).standard_normal(placement.shape).astype(np.float32)
    grid = placement.apply(array, order=order, fill=7)
    assert grid.shape == placement.grid
    back = placement.restore(grid, order=order, fill=np.nan)
    seen = ~np.isnan(back)
    assert seen.sum() == np.prod(placement.size)
    np.testing.assert_array_equal(back[seen], array[seen])
    np.testing.assert_array_equal(placement.apply(back, order=order, fill=7), grid)


@given(placements(resize=True))
@settings(max_examples=60, deadline=None)
def test_shapes_levels_and_types_survive_a_resize(placement):
    level = placement.apply(np.full(placement.shape, 2, np.int16), fill=2)
    assert level.shape == placement.grid
    np.testing.assert_allclose(level, 2, rtol=1e-6)
    back = placement.restore(level, fill=2)
    assert back.shape == placement.shape
    np.testing.assert_allclose(back, 2, rtol=1e-6)
    labels = np.random.default_rng(0).integers(0, 5, placement.shape).astype(np.uint8)
    assert placement.apply(labels, order=0).dtype == np.uint8
    assert set(np.unique(placement.restore(placement.apply(labels, order=0), order=0))) <= {0, *np.unique(labels)}


@given(placements(resize=True))
@settings(max_examples=40, deadline=None)
def test_a_record_is_plain_data_and_comes_back(placement):
    record = json.loads(json.dumps(placement.record()))
    assert record == placement.record()
    assert Placement.from_record(record) == placement
    assert pickle.loads(pickle.dumps(placement)) == placement
    assert hash(Placement.from_record(record)) == hash(placement)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [(9, 8, 10), (18, 32, 25), (24, 41, 47)])
def test_a_bright_voxel_comes_back_where_it_was(axis, size):
    shape = (22, 26, 30)
    order = Placement(source="", shape=shape, axis=axis).full_grid
    crop = tuple((1, length - 2) for length in order)
    placement = Placement(source="", shape=shape, axis=axis, crop=crop, size=size, pad=((1, 0), (2, 3), (0, 4)))
    voxels = [(6, 7, 8), (11, 13, 15), (15, 18, 21), (9, 17, 12)]
    for voxel in voxels:
        array = np.zeros(shape, np.float32)
        array[voxel] = 1
        grid = placement.apply(array)
        assert grid.max() > 0
        centre = ndimage.center_of_mass(placement.restore(grid))
        assert np.abs(np.subtract(centre, voxel)).max() < 0.5, (voxel, centre)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_keep_their_numbers(axis):
    shape = (12, 14, 16)
    numbers = np.arange(shape[axis]).reshape([-1 if number == axis else 1 for number in range(3)])
    scan = np.broadcast_to(numbers, shape)
    crop = ((3, 10), *((0, length) for number, length in enumerate(shape) if number != axis))
    placement = Placement(source="", shape=shape, axis=axis, crop=crop, pad=((2, 1), (0, 0), (0, 0)))
    grid = placement.apply(scan, fill=-1)
    for position in range(placement.grid[0]):
        number = placement.slice_number(position)
        assert np.all(grid[position] == (-1 if number is None else number))
        if number is not None:
            assert placement.position(number) == position
    assert [placement.slice_number(position) for position in (0, 1, 2, 8, 9)] == [None, None, 3, 9, None]
    for gone in (2, 10, 99):
        with pytest.raises(DataError, match=rf"scan\.nii: slice {gone} is outside the crop from 3 to 9"):
            Placement(**{**placement.record(), "source": "scan.nii", "crop": crop}).position(gone)


@pytest.mark.parametrize(("length", "size"), [(10, 5), (5, 10), (7, 3), (3, 7), (115, 64)])
def test_numbers_of_resized_slices_are_the_nearest(length, size):
    placement = Placement(source="", shape=(length + 4, 3), crop=((4, length + 4), (0, 3)), size=(size, 3))
    scan = np.repeat(np.arange(length + 4)[:, None], 3, axis=1)
    grid = placement.apply(scan, order=0)
    assert [placement.slice_number(place) for place in range(size)] == grid[:, 0].tolist()
    if size >= length:  # every slice is shown somewhere, and there it is
        assert [placement.slice_number(placement.position(n)) for n in range(4, length + 4)] == scan[4:, 0].tolist()


@pytest.mark.parametrize("size", [(112, 112), (200, 90), (7, 33)])
def test_linear_resizing_is_that_of_pillow(size):
    image = np.random.default_rng(0).standard_normal((121, 97)).astype(np.float32)
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    grid = Placement(source="", shape=image.shape, size=size).apply(image)
    assert grid.dtype == np.float32
    np.testing.assert_allclose(grid, expected, atol=2e-6)


def test_spacing_follows_the_axes_and_the_size():
    placement = Placement(source="", shape=(10, 20, 30), axis=1, crop=((5, 15), (0, 10), (0, 30)), size=(10, 5, 60))
    assert placement.spacing((1.0, 2.0, 3.0)) == (2.0, 2.0, 1.5)


def test_axes_go_to_the_front_and_back():
    array = np.arange(24).reshape(2, 3, 4)
    for axis in range(3):
        grid = Placement(source="", shape=(2, 3, 4), axis=axis).apply(array)
        np.testing.assert_array_equal(grid, np.moveaxis(array, axis, 0))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"shape": (4,)}, "two or three axes"),
        ({"axis": 3}, "axis 3; expected 0 to 2"),
        ({"crop": ((0, 5), (0, 5), (2, 7))}, "crop 2:7 along grid axis 2 lies outside 0:6"),
        ({"crop": ((0, 4), (3, 3), (0, 6))}, "crop 3:3 along grid axis 1"),
        ({"size": (0, 2, 2)}, "size"),
        ({"pad": ((0, 0), (0, -1), (0, 0))}, "pad"),
        ({"size": (3, 3)}, r"size \(3, 3\); expected entries for 3 axes"),
        ({"size": (10**6, 10**6, 10**6)}, "memory"),
        ({"pad": ((0, 10**6), (10**6, 0), (0, 10**6))}, "memory"),
    ],
)
def test_steps_that_cannot_be_taken_are_refused(steps, said):
    with pytest.raises(DataError, match=rf"(?s)a\.nii: .*{said}"):
        Placement(**{"source": "a.nii", "shape": (4, 5, 6), **steps})


def test_arrays_of_another_shape_and_foreign_records_are_refused():
    placement = Placement(source="a.nii", shape=(4, 5), size=(2, 3))
    with pytest.raises(DataError, match=r"a\.nii: array of shape \(5, 4\); expected the shape \(4, 5\) of the source"):
        placement.apply(np.zeros((5, 4)))
    with pytest.raises(DataError, match=r"expected the shape \(2, 3\) of the grid"):
        placement.restore(np.zeros((4, 5)))
    for record in ({}, {**placement.record(), "more": 1}, {**placement.record(), "size": ["x", 1]}):
        with pytest.raises(DataError, match="is not a placement"):
            Placement.from_record(record)
    with pytest.raises(FrozenInstanceError):
        placement.size = (1, 1)


def test_linear_and_nearest_only():
    with pytest.raises(ValueError, match="order=3"):
        Placement(source="", shape=(2, 2), size=(3, 3)).apply(np.zeros((2, 2)), order=3)


def test_every_axis_order_of_a_cube_is_told_apart():
    cube = np.arange(27).reshape(3, 3, 3)
    grids = [Placement(source="", shape=(3, 3, 3), axis=axis).apply(cube) for axis in (0, 1, 2)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(grids, 2))
