import math

import nibabel as nib
import numpy as np
import pytest

from seewhy.data.cases.mri import MRIDataModule
from seewhy.data.uniformity import find_other_spacings, group_spacings, report_shortcuts
from seewhy.errors import DataError

NAN = (math.nan,) * 3


def test_spacings_are_compared_with_the_median_of_those_that_are_known():
    sizes = {"a": (1, 1, 1), "b": (1, 1, 1.09), "c": (1, 1, 1.2), "d": None, "e": NAN}
    assert list(find_other_spacings(sizes)) == ["c"]
    assert list(find_other_spacings(sizes, (1, 1, 1.2))) == ["a"]
    assert find_other_spacings({"a": None}) == {}
    assert group_spacings([NAN, (1, 1, 1), (1, 1, 1.05), (1, 1, 5)]) == [
        "unknown", "1 × 1 × 1 mm", "1 × 1 × 1 mm", "1 × 1 × 5 mm",  # noqa: RUF001
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sizes", "classes", "decided"),
    [
        ("1155", "aabb", True),
        ("11556677", "aaaabbbb", True),
        ("1115557", "aaabbba", True),
        ("1515", "aabb", False),
        ("1156", "aabb", False),
        ("1234", "aabb", False),
        ("1111", "aabb", False),
        ("15", "ab", False),
    ],
)
def test_a_property_decides_if_no_value_has_two_classes(sizes, classes, decided):
    assert bool(report_shortcuts({"voxel size": list(sizes)}, list(classes))) == decided


def scans(root, depths):
    """Scans of class a, b, a, b … with these distances of slices."""
    rows = ["file,label"]
    for number, depth in enumerate(depths):
        values = np.random.default_rng(number).normal(500, 50, (12, 13, 10)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([1, 1, depth, 1])), root / f"s{number}_T1.nii.gz")
        rows.append(f"s{number}_T1.nii.gz,{'ab'[number % 2]}")
    (root / "cases.csv").write_text("\n".join(rows) + "\n")

    def module(**options):
        return MRIDataModule(table="cases.csv", root=str(root), label_column="label", fractions=(1, 0, 0), **options)

    return module


def test_scans_whose_voxel_size_decides_the_class_are_refused_with_figures(tmp_path):
    module = scans(tmp_path, [1, 5] * 3)
    with pytest.raises(DataError, match=r"cases\.csv: the voxel size decides the class") as caught:
        module().setup("fit")
    assert all(text in str(caught.value) for text in ("1 × 1 × 1 mm: 3 a", "1 × 1 × 5 mm: 3 b"))  # noqa: RUF001
    assert "data.shortcuts=allow" in str(caught.value)
    with pytest.warns(UserWarning, match="differ in their voxel size: .*3 a.*3 b"):
        module(shortcuts="allow").setup("fit")


def test_mixed_voxel_sizes_are_warned_of_with_their_classes(tmp_path):
    with pytest.warns(UserWarning, match=r"voxel size: 1 × 1 × 1 mm: 3 a, 2 b; 1 × 1 × 5 mm: 1 b"):  # noqa: RUF001
        scans(tmp_path, [1, 5, 1, 1, 1, 1])().setup("fit")
