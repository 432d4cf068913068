"""Work that cheap judging saves, with the same values: controls without forwards, AUPRC without places."""

import torch
from tests.explain.judging.conftest import rings_and_disks
from torch import nn

from seewhy.explain import Explainable, InputXGradient, Threshold, leave_one_out
from seewhy.explain.judging import average_precision, make_controls
from seewhy.explain.judging.localization import _sort, _try_thresholds
from seewhy.explain.judging.reused_calls import reuse_calls
from seewhy.nets.classifiers.multi_input import MultiInputClassifier


class Described(nn.Module):
    """A network of several inputs that names its branches."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def explainable(self):
        return Explainable(inputs=self.net.inputs, layers={k: f"net.{v}" for k, v in self.net.layers().items()})

    def forward(self, images):
        return self.net(images)


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


def test_thresholds_tried_on_sorted_values_select_the_same_regions():
    generator = torch.Generator().manual_seed(1)
    for levels in (2, 30, 10_000):
        values = torch.randint(0, levels, (500,), generator=generator).float() / 7
        mask = torch.rand(500, generator=generator) < 0.2
        scale = float(values.max().double()) * 0.9
        options = [Threshold(kind="area", value=value) for value in (0.001, 0.05, 0.5)]
        options += [Threshold(kind="scale", value=step / 20, scale=scale) for step in range(1, 20)]
        regions = [option.region(values) for option in options]
        expected = [float((one & mask).sum().double() / (one | mask).sum()) for one in regions]
        assert _try_thresholds(options, *_sort(values, mask)).tolist() == expected


def test_leaving_an_input_out_computes_the_other_branches_once_and_changes_nothing():
    torch.manual_seed(0)
    images = {name: torch.rand(2, 1, 32, 32) for name in "abc"}
    for shared in (False, True):
        net = MultiInputClassifier(
            inputs=["a", "b", "c"], num_outputs=3, backbone={"name": "test_efficientnet"}, hidden=8, shared=shared
        ).eval()
        model = Described(net)
        maps = InputXGradient()(model, images, 1)
        calls = []
        for branch in net.branches.values():
            branch.net.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        found = leave_one_out(model, images, maps).score
        assert len(calls) == 3 + 3  # the whole, and one changed branch for each input
        with torch.no_grad():
            for name, score in found.items():
                filled = images[name].mean(dim=(2, 3), keepdim=True).expand_as(images[name])
                changed = (net(images) - net({**images, name: filled}))[:, 1]
                assert torch.equal(score, changed)
        assert "forward" not in vars(next(iter(net.branches.values())))


def test_rows_that_are_all_alike_are_computed_once():
    torch.manual_seed(0)
    net, sizes = nn.Sequential(nn.Conv2d(1, 3, 3)).eval(), []
    net[0].register_forward_hook(lambda part, args, output: sizes.append(len(args[0])))
    empty, images = torch.zeros(5, 1, 8, 8), torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        expected = [net(images), net(empty)]
        sizes.clear()
        with reuse_calls([net]):
            found = [net(images), net(empty)]
    assert sizes == [5, 1]
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))
