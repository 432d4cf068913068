import math
import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from seewhy.errors import DataError
from seewhy.metrics.segmentation.patient_scores import MEASURES, PatientScores

S, H, W = 4, 24, 20


def patient_batch(name="p1", *, lesion=True, spacing=None, body=None, seed=0):
    mask = torch.zeros(S, H, W, dtype=torch.uint8)
    if lesion:
        mask[1:3, 6:10, 6:10] = 1
    generator = torch.Generator().manual_seed(seed)
    batch = {
        "image": torch.rand(S, 1, H, W, generator=generator),
        "label": mask.flatten(1).any(1, keepdim=True).float(),
        "mask": mask,
        "body": torch.ones(S, H, W, dtype=torch.bool) if body is None else body,
        "id": [f"{name}_{i}" for i in range(S)],
        "patient": [name] * S,
    }
    if spacing is not None:
        batch["spacing"] = torch.tensor([spacing] * S)
    return batch


def as_map(mask):
    return mask.float().unsqueeze(1)


def score(maps, batch, **options):
    scores = PatientScores(**{"with_floors": False, **options})
    scores.update({"maps": maps}, batch)
    return scores


def test_measures_by_hand():
    batch = patient_batch()
    drawn = torch.zeros(S, H, W)
    drawn[1, 6:10, 6:10] = 0.9  # right
    drawn[2, 6:10, 8:12] = 0.9  # two columns off
    drawn[0, 0:2, 0:5] = 0.9  # false alarm on one of two healthy slices
    (row,) = score({"refined": drawn.unsqueeze(1)}, batch).rows()
    assert row["dice"] == 2 * 24 / (32 + 42)
    assert row["iou"] == 24 / (32 + 42 - 24)
    assert row["dice_positive"] == 2 * 24 / 64
    assert row["iou_positive"] == 24 / 40
    assert row["hd95_slices_px"] == (0 + 2) / 2
    assert row["hd95_slices_mm"] is None
    assert (row["fp_area"], row["fp_slices"]) == (5.0, 0.5)
    assert (row["slices"], row["positive_slices"]) == (4, 2)
    assert row["lesion_share"] == 32 / (S * H * W)
    # Precision 24/42 at recall 24/32, then everything else in one step.
    rest = 32 / (S * H * W)
    assert row["auprc"] == pytest.approx(24 / 32 * 24 / 42 + 8 / 32 * rest)


def test_a_perfect_map():
    batch = patient_batch(spacing=(0.5, 0.5, 3.0))
    found = score({"cam": as_map(batch["mask"])}, batch).compute()
    for name in ("dice", "iou", "auprc", "dice_positive", "iou_positive", "auprc_positive"):
        assert found[f"cam/{name}"] == 1.0
    assert found["cam/hd95_slices_mm"] == found["cam/fp_area"] == found["cam/fp_slices"] == 0.0
    assert "cam/hd95_slices_px" not in found


def test_distances_are_mm_where_the_spacing_is_known_and_never_mixed_with_pixels():
    scores = PatientScores(with_floors=False)
    for name, spacing in [("a", (2.0, 2.0)), ("b", (math.nan, math.nan)), ("c", None)]:
        batch = patient_batch(name, spacing=spacing)
        scores.update({"maps": {"cam": as_map(batch["mask"].roll(3, dims=2))}}, batch)
    found = scores.compute()
    assert (found["cam/hd95_slices_mm"], found["cam/hd95_slices_px"]) == (6.0, 3.0)


@pytest.mark.parametrize(
    ("spacing", "expected"), [((0.5, 2.0, 3.0), 10 * 3.0 / 1000), ((0.5, 2.0, math.nan), None), (None, None)]
)
def test_false_volume_is_in_millilitres_where_all_three_distances_are_known(spacing, expected):
    batch = patient_batch(spacing=spacing)
    drawn = as_map(batch["mask"]).clone()
    drawn[0, 0, 0:2, 0:5] = 1  # ten pixels outside the lesion
    (row,) = score({"cam": drawn}, batch).rows()
    assert row["fp_volume_ml"] == (pytest.approx(expected) if expected else None)


def test_no_prediction_is_a_floor_that_healthy_patients_make_strong():
    scores = PatientScores()
    for name, lesion in (("a", True), ("b", False), ("c", False)):
        batch = patient_batch(name, lesion=lesion)
        scores.update({"maps": {"cam": as_map(batch["mask"])}}, batch)
    found = scores.compute()
    assert found["floor_nothing/dice"] == found["floor_nothing/healthy_hit"] == 0.0
    assert found["floor_nothing/lesion_dice"] == pytest.approx(2 / 3)
    assert found["cam/lesion_dice"] == 1.0


def test_a_silent_map_costs_the_diagonal_and_no_overlap():
    found = score({"cam": torch.zeros(S, 1, H, W)}, patient_batch(spacing=(2.0, 1.0))).compute()
    assert found["cam/dice"] == found["cam/fp_slices"] == 0.0
    assert found["cam/hd95_slices_mm"] == pytest.approx(math.hypot(2 * H, W))


def test_a_patient_without_lesion_counts_for_false_positives_only():
    scores = PatientScores(with_floors=False)
    healthy, ill = patient_batch("healthy", lesion=False), patient_batch("ill")
    for batch in (healthy, ill):
        scores.update({"maps": {"cam": as_map(ill["mask"])}}, batch)
    row = next(row for row in scores.rows() if row["patient"] == "healthy")
    assert [m for m in MEASURES if row[m] is not None] == ["lesion_dice", "fp_area", "fp_slices", "healthy_hit"]
    assert (row["lesion_dice"], row["healthy_hit"]) == (0.0, 1.0)
    found = scores.compute()
    assert found["cam/dice"] == 1.0
    assert found["cam/lesion_dice"] == 0.5  # of both
    assert found["cam/healthy_hit"] == 1.0  # of the healthy one
    assert found["cam/fp_area"] == (8 + 0) / 2
    assert (found["patients"], found["patients_with_lesion"]) == (2, 1)
    assert all(math.isfinite(value) for value in found.values())


def test_pixels_outside_the_body_are_not_judged_unless_lesion():
    body = torch.zeros(S, H, W, dtype=torch.bool)
    body[:, 4:12, 4:12] = True
    batch = patient_batch(body=body)
    outside = as_map(batch["mask"]).clone()
    outside[:, :, 15:] = 1.0  # loud where there is no tissue
    (row,) = score({"cam": outside}, batch).rows()
    assert row["auprc"] == 1.0
    batch["mask"][1, 20, 18] = 1  # annotated outside the body, and missed: must cost something
    quiet = outside.clone()
    quiet[1, 0, 20, 18] = 0.0
    (row,) = score({"cam": quiet}, batch).rows()
    assert row["auprc"] < 1.0


def test_competing_classes_take_the_highest_and_the_mean_skips_absent_ones():
    batch = patient_batch()
    batch["mask"][1, 6:8, 6:10] = 2
    maps = torch.zeros(S, 3, H, W)
    maps[:, 0][batch["mask"] == 1] = 0.9
    maps[:, 1][batch["mask"] == 2] = 0.9
    maps[:, 0][batch["mask"] == 2] = 0.8  # above the threshold, yet class 2 is higher
    (row,) = score({"cam": maps}, batch).rows()
    assert row["dice"] == 1.0
    maps[:, 1][batch["mask"] == 2] = 0.7
    (row,) = score({"cam": maps}, batch).rows()
    assert row["dice"] == pytest.approx((2 * 24 / (24 + 32) + 0) / 2)


def test_one_class_is_the_whole_lesion_whatever_the_annotation_tells_apart():
    batch = patient_batch()
    batch["mask"][1, 6:8, 6:10] = 4
    assert score({"cam": as_map(batch["mask"] > 0)}, batch).compute()["cam/dice"] == 1.0


def test_floors_do_not_depend_on_the_model_and_chance_is_the_share():
    rows = []
    for maps in (torch.zeros(S, 1, H, W), torch.ones(S, 1, H, W)):
        scores = score({"cam": maps}, patient_batch(), with_floors=True)
        rows.append([row for row in scores.rows() if row["map"].startswith("floor_")])
    assert rows[0] == rows[1]
    by_name = {row["map"]: row for row in rows[0]}
    names = {
        "floor_body",
        "floor_otsu",
        "floor_otsu3",
        "floor_centre",
        "floor_intensity",
        "floor_nothing",
        "floor_mirror",
    }
    assert set(by_name) == names
    share = by_name["floor_body"]["lesion_share"]
    assert by_name["floor_body"]["auprc"] == pytest.approx(share)
    assert by_name["floor_body"]["dice"] == pytest.approx(2 * share / (1 + share))


def test_intervals_from_three_patients_on():
    scores = PatientScores(with_floors=False)
    for i in range(2):
        batch = patient_batch(f"p{i}")
        scores.update({"maps": {"cam": as_map(batch["mask"].roll(i, dims=2))}}, batch)
    assert "cam/dice_low" not in scores.compute()
    batch = patient_batch("p2")
    scores.update({"maps": {"cam": as_map(batch["mask"].roll(2, dims=2))}}, batch)
    found = scores.compute()
    assert found == scores.compute()
    assert found["cam/dice"] == pytest.approx((1 + 0.75 + 0.5) / 3)
    assert found["cam/dice_low"] < found["cam/dice"] < found["cam/dice_high"]


def test_a_repeated_patient_counts_once():
    scores = PatientScores(with_floors=False)
    for name in ("p10", "p2", "p2"):
        batch = patient_batch(name)
        scores.update({"maps": {"cam": as_map(batch["mask"])}}, batch)
    assert [row["patient"] for row in scores.rows()] == ["p2", "p10"]
    scores.reset()
    assert scores.compute() == {}


def test_without_masks_there_is_nothing_to_score():
    batch = patient_batch()
    del batch["mask"]
    assert score({"cam": torch.rand(S, 1, H, W)}, batch).compute() == {}


def test_keeps_no_tensors():
    (row,) = score({"cam": torch.rand(S, 1, H, W)}, patient_batch()).rows()
    assert all(value is None or isinstance(value, str | int | float) for value in row.values())


def test_refuses_two_patients_in_a_batch_and_maps_of_another_size():
    batch = patient_batch()
    with pytest.raises(DataError, match=r"patient p1: map 'cam' is \(4, 1, 5, 5\)"):
        score({"cam": torch.rand(S, 1, 5, 5)}, batch)
    batch["patient"][0] = "p2"
    with pytest.raises(DataError, match="slices of 2 patients"):
        score({"cam": torch.rand(S, 1, H, W)}, batch)


def _rank(rank, port, expected):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    scores = PatientScores(with_floors=False, distances=False)
    for i in ([0, 2], [1, 0])[rank]:  # patient 0 on both, as a sampler that pads would have it
        batch = patient_batch(f"p{i}")
        scores.update({"maps": {"cam": as_map(batch["mask"].roll(i, dims=2))}}, batch)
    found = scores.compute()
    dist.destroy_process_group()
    assert found == expected


def test_every_rank_gets_the_scores_of_one_process():
    scores = PatientScores(with_floors=False, distances=False)
    for i in range(3):
        batch = patient_batch(f"p{i}")
        scores.update({"maps": {"cam": as_map(batch["mask"].roll(i, dims=2))}}, batch)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(_rank, args=(port, scores.compute()), nprocs=2, start_method="fork")
