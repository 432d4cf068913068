import itertools

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from seewhy.errors import DataError
from seewhy.io.geometry import Display, Geometry, display_of_plane

SHAPE = (5, 7, 3)


def geometry(codes, *, tilt=0.0):
    affine = inv_ornt_aff(axcodes2ornt(codes), SHAPE)
    affine = np.linalg.inv(affine)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    return Geometry(shape=SHAPE, affine=turn @ affine)


def every_orientation():
    for order in itertools.permutations(("RL", "AP", "SI")):
        yield from itertools.product(*order)


@pytest.mark.parametrize("codes", [tuple("LPS"), tuple("RAS")])
def test_what_two_usual_files_need(codes):
    flips = codes == tuple("RAS")
    expected = Display(transpose=True, flip_rows=flips, flip_columns=flips)
    assert display_of_plane(geometry(codes)) == expected


@pytest.mark.parametrize("codes", every_orientation(), ids="".join)
def test_axis_codes_are_read_from_the_affine_even_when_tilted(codes):
    assert geometry(codes).axis_codes == codes
    assert geometry(codes, tilt=0.3).axis_codes == codes


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("codes", every_orientation(), ids="".join)
def test_rows_and_columns_of_every_plane_run_the_radiological_way(codes, axis):
    display = display_of_plane(geometry(codes), axis=axis)
    row, column = (code for place, code in enumerate(codes) if place != axis)
    if display.transpose:
        row, column = column, row
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    row = opposite[row] if display.flip_rows else row
    column = opposite[column] if display.flip_columns else column
    cut = codes[axis]
    assert (row, column) == (("P", "L") if cut in "SI" else ("I", "L") if cut in "AP" else ("I", "P"))


def test_display_survives_json_and_refuses_what_it_does_not_know():
    display = Display(transpose=True, flip_columns=True)
    assert Display.from_record(display.record(), where="x") == display
    assert Display.from_record({}, where="x") == Display()
    with pytest.raises(DataError, match=r"dataset.json: display has mirror=True, flip_rows=1"):
        Display.from_record({"mirror": True, "flip_rows": 1}, where="dataset.json")
