import numpy as np
import pytest

from seewhy.figures.marks import Marks, draw_marks, make_marks
from seewhy.io.geometry import Display, Geometry, display_of_plane


@pytest.mark.parametrize(
    ("axis", "plane", "sides"), [(0, "sagittal", ("A", "P")), (1, "coronal", ("R", "L")), (2, "axial", ("R", "L"))]
)
def test_planes_and_sides_are_those_of_the_scanner(axis, plane, sides):
    """A voxel marked at the patient's right (or front) is drawn at the side that has this letter."""
    from seewhy.figures.style import turn_upright

    for flips in ((1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)):
        geometry = Geometry(shape=(5, 6, 7), affine=np.diag([*flips, 1.0]).astype(float))
        display = display_of_plane(geometry, axis=axis)
        assert (display.plane, display.sides) == (plane, sides)
        world = {"R": (0, 1), "A": (1, 1)}[sides[0]]
        grid = np.indices((5, 6, 7))[world[0]] * flips[world[0]] * world[1]
        picture = turn_upright(np.take(grid, 2, axis=axis), display)
        assert (picture[:, 0] > picture[:, -1]).all()  # the left of the picture is at the right, or the front


def test_the_bar_is_as_long_as_it_says():
    picture = np.full((120, 200, 3), 128, np.uint8)
    drawn = draw_marks(picture, Marks(columns=50, mm=0.5))  # 8 pixels a millimetre
    bar = (drawn[113] == 255).all(axis=1)
    assert bar.sum() == 5 * 8 + 1  # 5 mm is the longest within three tenths of the width
    assert np.array_equal(draw_marks(picture, Marks()), picture)
    assert np.array_equal(draw_marks(picture[:40], Marks(columns=50, mm=0.5)), picture[:40])


def test_spacing_follows_the_turn_and_may_be_unknown():
    turned = make_marks(Display(transpose=True, plane="axial"), (240, 155), (1.0, 2.0))
    assert turned == Marks(sides=("R", "L"), columns=240, mm=1.0, plane="axial")
    assert make_marks(Display(), (240, 155), (1.0, float("nan"))).mm is None
    assert make_marks(Display(), (240, 155), None) == Marks(columns=155)
    assert Display(plane="axial") == Display()
