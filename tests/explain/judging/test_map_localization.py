"""Localisation scores by hand, against torchmetrics, and at the level of chance."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_average_precision

from seewhy.errors import ConfigError, DataError
from seewhy.explain.judging.localization import (
    Threshold,
    average_precision,
    join_masks,
    measure_localization,
    tune_threshold,
)
from seewhy.explain.judging.similarity import join_maps


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=60))
def test_average_precision_is_that_of_torchmetrics(pairs):
    values, mask = torch.tensor([float(v) for v, _ in pairs]), torch.tensor([m for _, m in pairs])
    if mask.any():
        # Scores in [0, 1] are left as they are; others would be squashed.
        expected = float(binary_average_precision(values / 5, mask.long()))
        assert float(average_precision(values, mask)) == pytest.approx(expected, abs=1e-6)
    else:
        assert math.isnan(float(average_precision(values, mask)))


def test_scores_by_hand(maps_of):
    #                 hit, half inside         miss               tie, one of two inside   no evidence
    values = [[[4.0, 1, 2, 1]], [[0.0, 0, 5, 0]], [[3.0, 0, 3, 0]], [[-1.0, 0, 0, 0]]]
    mask = torch.tensor([[[1, 1, 0, 0]]]).expand(4, 1, 4)
    found = measure_localization(maps_of(image=torch.tensor(values)), mask)
    assert found.mask_share.tolist() == [0.5] * 4
    assert found.pointing.tolist() == [1.0, 0.0, 0.5, 0.5]
    assert found.energy.tolist() == pytest.approx([5 / 8, 0.0, 0.5, 0.0])
    assert found.auprc.tolist() == pytest.approx([0.5 + 0.5 * 2 / 4, 0.5, 0.5 * 0.5 + 0.5 * 0.5, 0.5])
    assert found.iou is None


def test_only_what_speaks_for_the_target_counts(maps_of):
    maps = maps_of(image=torch.tensor([[[-9.0, 1.0]]]))
    assert measure_localization(maps, torch.tensor([[[1, 0]]])).energy.tolist() == [0.0]


def test_the_perfect_map_and_the_empty_mask(maps_of):
    mask = torch.zeros(2, 6, 7)
    mask[0, 2:4, 1:5] = 2  # any class above 0
    found = measure_localization(maps_of(image=mask), mask, threshold=Threshold(kind="scale", value=0.5, scale=2.0))
    assert [float(one[0]) for one in (found.pointing, found.energy, found.auprc, found.iou)] == [1.0] * 4
    for one in (found.pointing, found.energy, found.auprc, found.iou, found.mask_share, found.by_input["image"]):
        assert math.isnan(float(one[1]))


def test_uniform_and_random_maps_are_at_the_level_of_chance(maps_of):
    mask = torch.zeros(200, 16, 16)
    mask[:, 3:9, 4:12] = 1
    share = 48 / 256
    uniform = measure_localization(maps_of(image=torch.ones(200, 16, 16)), mask)
    for one in (uniform.pointing, uniform.energy, uniform.auprc):
        assert one == pytest.approx(torch.full((200,), share, dtype=torch.float64))
    random = torch.rand(200, 16, 16, generator=torch.Generator().manual_seed(0))
    found = measure_localization(maps_of(image=random), mask)
    for one in (found.pointing, found.energy):
        assert abs(float(one.mean()) - share) < 3 * float(one.std()) / math.sqrt(200)


def test_evidence_in_the_wrong_input_lies_outside(maps_of):
    maps = maps_of(a=torch.tensor([[[3.0, 1.0]]]), b=torch.tensor([[[4.0, 0.0]]]))
    found = measure_localization(maps, {"a": torch.tensor([[[1, 0]]])})
    assert found.energy.item() == pytest.approx(3 / 8)
    assert found.mask_share.item() == pytest.approx(1 / 4)
    assert found.pointing.item() == 0.0
    assert found.by_input["a"].item() == pytest.approx(3 / 4)
    assert math.isnan(found.by_input["b"].item())


def test_volumes_are_planes_in_another_shape(maps_of):
    values, mask = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5) > 0.7
    volume, plane = (
        measure_localization(maps_of(image=values), mask),
        measure_localization(maps_of(image=values.flatten(2)), mask.flatten(2)),
    )
    assert torch.equal(volume.auprc, plane.auprc)
    assert torch.equal(volume.energy, plane.energy)


def test_regions_of_thresholds():
    evidence = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert Threshold(kind="area", value=0.2).region(evidence).nonzero()[:, 0].tolist() == [3, 4]
    assert Threshold(kind="area", value=0.9).region(evidence).sum() == 4  # nothing where there is no evidence
    assert Threshold(kind="scale", value=0.5, scale=4.0).region(evidence).nonzero()[:, 0].tolist() == [2, 3, 4]


def test_the_tuned_threshold_is_the_best_of_all(maps_of):
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(6, 20, 20, dtype=torch.bool)
    mask[:, 4:10, 5:15] = True
    maps = maps_of(image=mask + 0.3 * torch.rand(6, 20, 20, generator=generator))
    tuned = tune_threshold(zip(join_maps(maps.evidence()), join_masks(maps, mask), strict=True))
    assert measure_localization(maps, mask, threshold=tuned).iou.mean().item() == pytest.approx(tuned.iou)
    assert tuned.iou == 1.0
    for value in np.linspace(0.05, 0.95, 19):
        other = Threshold(kind="scale", value=float(value), scale=tuned.scale)
        assert measure_localization(maps, mask, threshold=other).iou.mean() <= tuned.iou + 1e-12


def test_what_does_not_fit_is_told(maps_of):
    maps = maps_of(fluid=torch.ones(1, 2, 3), drusen=torch.ones(1, 2, 3))
    with pytest.raises(ConfigError, match="mapping input"):
        measure_localization(maps, torch.ones(1, 2, 3))
    with pytest.raises(ConfigError, match="nearest: 'fluid'"):
        measure_localization(maps, {"fluids": torch.ones(1, 2, 3)})
    with pytest.raises(ConfigError, match=r"'fluid': mask \(1, 3, 2\)"):
        measure_localization(maps, {"fluid": torch.ones(1, 3, 2)})
    with pytest.raises(DataError, match="mask"):
        tune_threshold([(torch.ones(3), torch.zeros(3))])
