"""Measures on modules whose values are known, in 2D and 3D, with several inputs, alone and in batches."""

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError
from seewhy.explain import InputXGradient, JudgingSettings, Maps, Saliency, Scorecard, judging


class Sum(nn.Module):
    """One score: the weighted sum of two images of different sizes."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, first, second):
        return sum((w * x).flatten(1).sum(1) for w, x in zip(self.weights, (first, second), strict=True))[:, None]


@pytest.fixture(params=[2, 3])
def linear(request):
    """A linear module of two inputs, a batch, and its exact maps; zero is black."""
    torch.manual_seed(0)
    sizes = [(6, 7), (5, 4)] if request.param == 2 else [(3, 6, 7), (4, 5, 4)]
    module = Sum(*(torch.randn(1, *size) for size in sizes))
    inputs = {name: torch.rand(3, 1, *size) for name, size in zip(("first", "second"), sizes, strict=True)}
    for image in inputs.values():
        image.flatten(1)[:, 0] = 0  # the lowest value, so that black is the baseline of the gradient
    return module, inputs, InputXGradient()(module, inputs, target=1), Saliency()(module, inputs, target=1)


def test_a_gradient_of_a_linear_module_has_no_infidelity(linear):
    module, inputs, maps, gradient = linear
    for options in ({}, {"nested": False}, {"scaled": True}, {"patch": 3}):
        assert judging.measure_infidelity(module, inputs, gradient, **options).abs().max() < 1e-6
    worse = Maps(method="x", maps={name: one.flip(-1) for name, one in gradient.maps.items()}, target=maps.target,
                 probability=maps.probability, scores=maps.scores)  # fmt: skip
    assert judging.measure_infidelity(module, inputs, worse, scaled=True).min() > 0.1


def test_infidelity_at_the_best_scale_does_not_depend_on_the_units(linear):
    module, inputs, maps, gradient = linear
    louder = Maps(method="x", maps={name: 100 * one for name, one in gradient.maps.items()}, target=maps.target,
                  probability=maps.probability, scores=maps.scores)  # fmt: skip
    assert judging.measure_infidelity(module, inputs, louder, scaled=True).max() < 1e-9
    assert judging.measure_infidelity(module, inputs, louder).min() > 1


def test_exact_maps_have_full_sensitivity_n(linear):
    module, inputs, maps, _ = linear
    assert judging.measure_sensitivity_n(module, inputs, maps).sub(1).abs().max() < 1e-5


def test_the_score_is_monotonic_only_along_its_true_order():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False))
    image = torch.rand(2, 1, 8, 8)
    maps = InputXGradient()(module, image, target=1)
    nn.init.uniform_(module[1].weight)  # all positive: any order is monotonic
    assert judging.measure_monotonicity(module, image, maps).tolist() == [True, True]
    module[1].weight.data[0, 5] = -1
    assert judging.measure_monotonicity(module, image, maps).tolist() == [False, False]


def test_curves_of_a_linear_module_are_its_sums(linear):
    module, inputs, maps, _ = linear
    positive = Maps(method="x", maps={name: one.abs() for name, one in maps.maps.items()}, target=maps.target,
                    probability=maps.probability, scores=maps.scores)  # fmt: skip
    most = judging.measure_region_perturbation(module, inputs, positive, patch=1, output="score", most=10)
    parts = torch.cat([one.flatten(1) for one in maps.maps.values()], dim=1)
    order = parts.abs().argsort(dim=1, descending=True)
    assert most == pytest.approx(parts.gather(1, order)[:, :10].cumsum(dim=1), abs=1e-4)
    curve = judging.measure_selectivity(module, inputs, positive, patch=1, output="score")
    assert curve[:, -1] == pytest.approx(maps.scores[:, 0] - parts.sum(dim=1), abs=1e-4)
    least = judging.measure_region_perturbation(module, inputs, positive, patch=1, output="score", order="lerf", most=1)
    assert least[:, 0] == pytest.approx(parts.gather(1, order)[:, -1], abs=1e-4)


def test_every_column_of_a_sample_is_that_of_the_sample_alone(linear):
    """Except sufficiency, which compares samples."""
    module, inputs, _, _ = linear
    explainer = Saliency()
    masks = {name: image[:, 0] > 0.5 for name, image in inputs.items()}
    measures = [one for one in judging.choose_measures(["all"]) if one.name != "sufficiency"]

    def measure(part, given):
        maps = explainer(module, part, target=1)
        judged = judging.Judged(explainer=explainer, module=module, inputs=part, maps=maps, masks=given)
        return judging.measure_all(judged, measures)

    whole = measure(inputs, masks)
    alone = measure({n: x[1:2] for n, x in inputs.items()}, {n: x[1:2] for n, x in masks.items()})
    assert set(whole) == {column for one in measures for column in one.columns}
    for column, values in whole.items():
        assert values.shape == (3,)
        assert float(values[1]) == pytest.approx(float(alone[column][0]), abs=1e-4, nan_ok=True), column


def test_a_map_that_ignores_the_class_and_the_network(nets, images):
    net, control = nets.Net().eval(), judging.EdgeControl()
    maps = control(net, images)
    assert judging.measure_random_logit(control, net, images, maps).tolist() == pytest.approx([1, 1, 1])
    assert judging.measure_efficient_mprt(control, net, images, maps).tolist() == [0, 0, 0]
    assert judging.measure_smooth_mprt(control, net, images, maps, samples=2).tolist() == pytest.approx([1, 1, 1])
    assert judging.measure_random_logit(Saliency(), net, images, Saliency()(net, images)).max() < 0.9


def test_constant_evidence_has_the_level_of_chance():
    maps = Maps(method="x", maps={"image": torch.ones(1, 4, 5)}, target=torch.tensor([0]),
                probability=torch.ones(1), scores=torch.zeros(1, 2))  # fmt: skip
    mask = torch.zeros(1, 4, 5)
    mask[0, 0] = 1
    assert float(judging.compute_top_k_intersection(maps, mask, k=3)) == pytest.approx(0.25)
    assert float(judging.compute_relevance_rank_accuracy(maps, mask)) == pytest.approx(0.25)
    assert float(judging.compute_complexity(maps)) == pytest.approx(torch.tensor(20.0).log().item())
    assert float(judging.compute_sparseness(maps)) == pytest.approx(0, abs=1e-6)
    assert float(judging.compute_effective_complexity(maps)) == 20
    assert judging.compute_top_k_intersection(maps, torch.zeros(1, 4, 5)).isnan().all()


def test_a_scorecard_has_the_columns_of_its_metrics(nets, images):
    net = nets.Net().eval()
    settings = JudgingSettings(scope="none", metrics=["complexity", "max_sensitivity", "relevance_rank_accuracy"])
    rows = Scorecard(Saliency(), settings=settings).judge(net, images, Saliency()(net, images))
    assert {"sparseness", "complexity", "effective_complexity", "max_sensitivity"} <= set(rows[0])
    assert "relevance_rank_accuracy" not in rows[0]  # without masks
    with pytest.raises(ConfigError, match="infidelity"):
        JudgingSettings(metrics=["infidelty"])
