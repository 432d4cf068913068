import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from seewhy.metrics.segmentation.floors import best_window, volume_floors
from seewhy.metrics.segmentation.overlap import cldice, hausdorff95_volume, skeleton
from seewhy.metrics.segmentation.volume_scores import VolumeScores


def tube(shape=(30, 20, 20), *, radius=2.0, z=(3, 27), centre=(10, 10)):
    zz, yy, xx = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = ((yy - centre[0]) ** 2 + (xx - centre[1]) ** 2 <= radius**2) & (zz >= z[0]) & (zz < z[1])
    return torch.from_numpy(np.broadcast_to(inside, shape).copy())


# -- clDice ---------------------------------------------------------------------------------------------------


def test_the_skeleton_of_a_tube_is_its_centre_line():
    mask = tube()
    line = skeleton(mask)
    assert not (line & ~mask).any()
    assert set(map(tuple, line.nonzero()[:, 1:].tolist())) == {(10, 10)}
    assert line[6:24, 10, 10].all()
    assert torch.equal(skeleton(line), line)  # what is thin stays
    assert not skeleton(torch.zeros(4, 4, 4, dtype=torch.bool)).any()


def test_skeletons_of_thick_parts_lose_nothing_and_reach_the_border():
    mask = torch.zeros(12, 12, 40, dtype=torch.bool)
    mask[1:12, 0:11, :] = True  # a bar of 11 x 11 that touches three sides of the volume
    line = skeleton(mask)
    assert line[6, 5, 8:32].all()


def test_cldice_known_answers():
    mask = tube()
    assert cldice(mask, mask) == 1.0
    assert cldice(torch.zeros_like(mask), mask) == 0.0
    assert math.isnan(cldice(mask, torch.zeros_like(mask)))
    wide = tube(radius=4.0)  # its centre line lies in the mask, and the mask's in it: topology alone counts
    assert cldice(wide, mask) == pytest.approx(1.0, abs=0.1)
    torn = mask.clone()
    torn[10:20] = False
    line = skeleton(mask)
    expected_sensitivity = int((line & torn).sum()) / int(line.sum())
    assert cldice(torn, mask) == pytest.approx(2 * expected_sensitivity / (1 + expected_sensitivity))
    beside = tube(centre=(4, 4))
    assert cldice(beside, mask) == 0.0


# -- HD95 -----------------------------------------------------------------------------------------------------


def test_the_distance_of_shifted_boxes_is_the_shift_in_mm():
    mask, moved = (torch.zeros(20, 20, 20, dtype=torch.bool) for _ in range(2))
    mask[5:10, 5:10, 5:10] = True
    moved[8:13, 5:10, 5:10] = True
    assert hausdorff95_volume(mask, mask) == 0
    assert hausdorff95_volume(moved, mask) == pytest.approx(3)
    assert hausdorff95_volume(moved, mask, spacing=(2.5, 1, 1)) == pytest.approx(7.5)
    assert hausdorff95_volume(torch.zeros_like(mask), mask, spacing=(1, 2, 2)) == pytest.approx(
        math.sqrt(20**2 + 2 * 40**2)
    )
    assert math.isnan(hausdorff95_volume(mask, torch.zeros_like(mask)))


# -- floors ---------------------------------------------------------------------------------------------------


def test_the_best_window_beats_every_other_one():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 7, 8)).astype(np.float32)
    mask = (values > 0.2) & (values < 0.9) & (rng.random(values.shape) < 0.8)

    def dice(low, high):
        called = (values >= low) & (values <= high)
        return 2 * (called & mask).sum() / (called.sum() + mask.sum())

    found = dice(*best_window(values, mask))
    levels = np.sort(values[mask])
    assert found >= max(dice(low, high) for low in levels[::4] for high in levels[::4] if low <= high) - 0.01
    low, high = best_window(values, np.zeros_like(mask))
    assert not ((values >= low) & (values <= high)).any()


def test_floors_are_what_their_names_say():
    image = torch.zeros(1, 10, 10, 10)
    image[0, 1:4, 1:4, 1:4], image[0, 7, 7, 7], image[0, 5] = 10.0, 10.0, 5.0
    truth = torch.stack([image[0] == 5.0, image[0] == 10.0])
    floors = volume_floors(image, truth)
    assert torch.equal(floors["floor_window"], truth)
    assert floors["floor_otsu3"].sum() == 2 * 28
    assert floors["floor_component"].sum() == 2 * 27
    assert not floors["floor_nothing"].any()


# -- scores ---------------------------------------------------------------------------------------------------


def filled(scores, *, volumes=4, per_patient=1):
    generator = torch.Generator().manual_seed(0)
    for number in range(volumes):
        truth = torch.zeros(2, 12, 12, 12, dtype=torch.bool)
        truth[0, 2:6, 2:6, 2:6], truth[1, 8:10, 2:10, 5:8] = True, True
        predicted = truth ^ (torch.rand(truth.shape, generator=generator) < 0.02 * (1 + number))
        image = truth.sum(0)[None].float() + torch.randn(1, 12, 12, 12, generator=generator)
        scores.update(
            predicted,
            truth,
            image=image,
            name=f"v{number}",
            patient=f"p{number // per_patient}",
            spacing=(2.0, 1.0, 1.0),
        )
        yield predicted, truth


def test_scores_are_means_over_classes_and_patients_with_intervals():
    scores = VolumeScores(classes=["a", "b"])
    pairs = list(filled(scores))
    found = scores.compute()
    by_class = torch.stack([compute_dice(p[None].float(), t[None].float()) for p, t in pairs])[:, 0].mean(0)
    assert found["prediction_a/dice"] == pytest.approx(float(by_class[0]))
    assert found["prediction_b/dice"] == pytest.approx(float(by_class[1]))
    assert found["prediction/dice"] == pytest.approx(float(by_class.mean()))
    assert found["prediction/dice_low"] < found["prediction/dice"] < found["prediction/dice_high"]
    assert found["floor_nothing/dice"] == 0
    assert 0 < found["floor_window/dice"] < found["prediction/dice"]
    assert found["volumes"] == 4
    rows = scores.rows()
    assert {row["map"] for row in rows if row["class"] == "mean"} == {
        "prediction", "floor_window", "floor_otsu3", "floor_component", "floor_nothing",
    }  # fmt: skip
    assert all(row["hd95_mm"] is not None and row["cldice"] is not None for row in rows)


def test_volumes_of_one_patient_count_once():
    scores = VolumeScores(classes=["a", "b"], structure=False, with_floors=False)
    list(filled(scores, volumes=4, per_patient=4))
    found = scores.compute()
    assert (found["patients"], found["volumes"]) == (1, 4)
    assert "prediction/dice_low" not in found
    scores.reset()
    assert scores.compute() == {}


def test_a_class_that_is_not_there_has_no_score_and_unknown_voxels_count_nowhere():
    scores = VolumeScores(classes=["a", "b"], structure=False, with_floors=False)
    truth = torch.zeros(2, 6, 6, 6, dtype=torch.bool)
    truth[0, :3] = True
    predicted = torch.ones_like(truth)
    known = torch.zeros(6, 6, 6, dtype=torch.bool)
    known[:4] = True
    scores.update(predicted, truth, image=torch.zeros(1, 6, 6, 6), name="v", patient="p", known=known)
    rows = {row["map"]: row for row in scores.rows()}
    assert rows["prediction_b"]["dice"] is None
    assert rows["prediction"]["dice"] == rows["prediction_a"]["dice"] == pytest.approx(2 * 3 / (4 + 3))
