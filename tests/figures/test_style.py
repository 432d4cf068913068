import itertools

import numpy as np
import pytest

from seewhy.figures.style import turn_upright
from seewhy.io.geometry import Display

ARRAY = np.arange(6).reshape(2, 3)


def test_nothing_to_turn_is_the_same_array():
    np.testing.assert_array_equal(turn_upright(ARRAY, Display()), ARRAY)


def test_transpose_comes_before_the_flips():
    turned = turn_upright(ARRAY, Display(transpose=True, flip_rows=True))
    assert turned.tolist() == [[2, 5], [1, 4], [0, 3]]
    assert turn_upright(ARRAY, Display(flip_columns=True)).tolist() == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize("flags", itertools.product((False, True), repeat=3))
def test_colours_go_with_their_pixels(flags):
    display = Display(**dict(zip(("transpose", "flip_rows", "flip_columns"), flags, strict=True)))
    colour = np.stack([ARRAY, ARRAY + 10, ARRAY + 20], axis=-1)
    turned = turn_upright(colour, display)
    assert turned.flags["C_CONTIGUOUS"]
    for channel in range(3):
        np.testing.assert_array_equal(turned[..., channel], turn_upright(ARRAY, display) + 10 * channel)
