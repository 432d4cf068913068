import nrrd
import numpy as np
import pytest

from seewhy.errors import DataError
from seewhy.io.nrrd import nrrd_geometry, read_nrrd

VALUES = np.random.default_rng(0).integers(0, 1000, (4, 5, 6)).astype(np.int16)


def write(path, values=VALUES, **header):
    nrrd.write(str(path), values, header, index_order="F")
    return path


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_values_and_space(tmp_path, space, signs):
    directions = np.array([[0.625, 0, 0], [0, 0.5, 0.1], [0, 0, 2.5]])  # one row per array axis
    path = write(
        tmp_path / "a.nrrd",
        **{"space": space, "space directions": directions, "space origin": np.array([1.0, 2.0, 3.0])},
    )
    values, geometry = read_nrrd(path)
    np.testing.assert_array_equal(values, VALUES)
    expected = np.eye(4)
    expected[:3] = np.array(signs)[:, None] * np.column_stack([directions.T, [1, 2, 3]])
    np.testing.assert_allclose(geometry.affine, expected)
    assert geometry.shape == (4, 5, 6)
    assert nrrd_geometry(path).difference(geometry) is None
    np.testing.assert_allclose(geometry.spacing, np.linalg.norm(directions, axis=1))


def test_spacings_without_a_space(tmp_path):
    path = write(tmp_path / "a.nrrd", spacings=[0.5, 0.6, 3.0])
    np.testing.assert_allclose(read_nrrd(path)[1].spacing, (0.5, 0.6, 3.0))


def test_bad_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.nrrd does not exist"):
        read_nrrd(tmp_path / "none.nrrd")
    (tmp_path / "text.nrrd").write_text("hello")
    with pytest.raises(DataError, match=r"text\.nrrd"):
        read_nrrd(tmp_path / "text.nrrd")
    path = write(tmp_path / "cut.nrrd")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"cut\.nrrd"):
        read_nrrd(path)
    with pytest.raises(DataError, match="expected three axes"):
        read_nrrd(write(tmp_path / "flat.nrrd", np.zeros((3, 4))))
    odd = write(tmp_path / "odd.nrrd", **{"space": "scanner-xyz", "space directions": np.eye(3)})
    with pytest.raises(DataError, match="scanner-xyz"):
        read_nrrd(odd)


def test_directions_that_span_no_space_are_refused(tmp_path):
    path = tmp_path / "a.nrrd"
    header = {"space": "lps", "space directions": np.diag([1.0, 1.0, 0.0]), "space origin": np.zeros(3)}
    nrrd.write(str(path), np.zeros((2, 3, 4), np.int16), header)
    with pytest.raises(DataError, match=r"a\.nrrd: affine gives voxels of 1 x 1 x 0 mm"):
        read_nrrd(path)
