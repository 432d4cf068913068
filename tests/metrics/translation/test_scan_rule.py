"""The fixed rule: thresholds from the reference's scans, volumes of known scans, and regions outside the lesion."""

import numpy as np
import pytest

from seewhy.batch import MODALITIES
from seewhy.metrics.translation.scan_rule import RuleScan, ScanRule, fit_scan_rule

T1, FLAIR = MODALITIES.index("t1"), MODALITIES.index("flair")


def make_scan(seed=0, lesion=True):
    """Three slabs of T1 and a bright square in FLAIR, next to a single bright voxel."""
    rng = np.random.default_rng(seed)
    image = 0.02 * rng.normal(size=(6, len(MODALITIES), 12, 12))
    image[:2, T1] -= 0.8
    image[4:, T1] += 0.8
    mask = np.zeros((6, 12, 12), np.uint8)
    if lesion:
        mask[2:4, 3:6, 3:6] = 2
        image[:, FLAIR][mask > 0] += 0.7
    image[5, FLAIR, 11, 11] = 0.9
    body = np.ones(mask.shape, bool)
    body[:, 0] = False
    return RuleScan(np.clip(image, -1, 1), body, mask)


def test_thresholds_lie_between_the_tissues_and_above_healthy_flair():
    rule = fit_scan_rule([make_scan(), make_scan(1), make_scan(2, lesion=False)])
    low, high = rule.cuts
    assert -0.75 < low < -0.05
    assert 0.05 < high < 0.75
    assert 0.07 < rule.lesion < 0.65


def test_without_annotations_there_is_no_lesion_rule():
    rule = fit_scan_rule([make_scan()._replace(mask=None), make_scan(lesion=False)])
    assert rule.lesion is None
    assert set(rule.measure_volumes(make_scan(), voxel=1)) == {"fluid", "gray", "white"}


def test_volumes_are_of_tissue_and_of_the_largest_bright_region_and_never_read_the_mask():
    rule, scan = ScanRule((-0.4, 0.4), 0.4), make_scan()
    expected = {"fluid": 132.0, "gray": 132.0, "white": 132.0, "lesion": 9.0}
    assert rule.measure_volumes(scan, voxel=0.5) == expected
    assert rule.measure_volumes(scan._replace(mask=None), voxel=0.5) == expected
    healthy = rule.measure_volumes(make_scan(lesion=False), voxel=1)
    assert healthy["lesion"] == 1  # the single voxel: what the rule finds in a healthy head counts


def test_regions_of_tissue_are_outside_the_lesion_and_the_lesion_is_the_annotated_one():
    regions = ScanRule((-0.4, 0.4), 0.4).find_regions(make_scan())
    assert {name: int(region.sum()) for name, region in regions.items()} == {
        "fluid": 264, "gray": 246, "white": 264, "lesion": 18,
    }  # fmt: skip
    assert not (regions["gray"] & regions["lesion"]).any()
    assert "lesion" not in ScanRule((-0.4, 0.4), None).find_regions(make_scan(lesion=False))


def test_a_brighter_scanner_moves_volumes():
    rule, scan = ScanRule((-0.4, 0.4), 0.4), make_scan()
    brighter = scan._replace(image=np.clip(scan.image + 0.5, -1, 1))
    assert rule.measure_volumes(brighter, voxel=1)["gray"] == pytest.approx(264, abs=1)
    assert rule.measure_volumes(brighter, voxel=1)["white"] == pytest.approx(528, abs=1)
