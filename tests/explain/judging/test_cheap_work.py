"""Work that cheap judging saves, with the same values: controls without forwards, AUPRC without places."""

import torch
from tests.explain.judging.conftest import rings_and_disks

from seewhy.explain.judging import average_precision, make_controls


def by_definition(values, mask):
    """Σ precision × step of recall over all distinct values, from the highest."""
    total, recall = 0.0, 0.0
    for value in sorted(set(values.tolist()), reverse=True):
        chosen = values >= value
        hits = float((chosen & mask).sum())
        total += hits / float(chosen.sum()) * (hits / float(mask.sum()) - recall)
        recall = hits / float(mask.sum())
    return total


def test_the_area_under_the_curve_is_that_of_its_definition_with_ties():
    generator = torch.Generator().manual_seed(0)
    for levels in (3, 20, 10_000):
        values = torch.randint(0, levels, (300,), generator=generator).float()
        mask = torch.rand(300, generator=generator) < 0.1
        assert abs(float(average_precision(values, mask)) - by_definition(values, mask)) < 1e-12
    assert bool(average_precision(values, torch.zeros(300, dtype=torch.bool)).isnan())


def test_controls_are_redrawn_as_they_are_explained_and_without_a_forward(trained):
    images, calls = rings_and_disks(3, seed=4).image, []
    base = make_controls(seed=5)[0](trained, images, 1)
    hook = trained.register_forward_hook(lambda *_: calls.append(1))
    redrawn = [control.redraw(base, trained, images) for control in make_controls(seed=5)]
    hook.remove()
    assert calls == []
    for control, maps in zip(make_controls(seed=5), redrawn, strict=True):
        expected = control(trained, images, 1)
        assert (maps.method, maps.seed, maps.notes) == (expected.method, expected.seed, expected.notes)
        assert torch.equal(maps.maps["image"], expected.maps["image"])
        assert torch.equal(maps.scores, expected.scores)
        assert torch.equal(maps.target, expected.target)
