"""Maps of a trained network pass the randomisation test, maps that need no network fail it."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from seewhy.errors import ExplanationError
from seewhy.explain import GradCAM
from seewhy.explain.base import Attribution, TargetwiseExplainer
from seewhy.explain.judging.controls import make_controls
from seewhy.explain.judging.randomization import Randomization, RandomizationTest
from seewhy.explain.judging.scorecard import JudgingSettings, Scorecard
from seewhy.run.build import build
from seewhy.run.folder import conf_dir


def outcome(explainer, module, images, **options):
    test = RandomizationTest(explainer, **options)
    rows = test.add(module, images, explainer(module, images))
    return rows, test.result()


def test_grad_cam_passes(trained, cases):
    _, result = outcome(GradCAM(layers="features.10"), trained, cases.image)
    assert result.passes is True
    assert result.failures == []
    assert result.excess[2] < 0.3


def test_path_gradients_pass(trained, cases, path_gradients):
    _, result = outcome(path_gradients, trained, cases.image)
    assert result.passes is True


@pytest.mark.parametrize("control", make_controls(), ids=lambda control: control.method)
def test_what_needs_no_network_fails_twice(trained, cases, control):
    _, result = outcome(control, trained, cases.image, draws=1)
    assert result.passes is False
    assert result.net == pytest.approx(1.0)
    assert len(result.failures) == 2
    assert "re-initialised network" in result.failures[0]


def test_a_map_of_the_features_alone_is_told_to_ignore_the_head(trained, cases):
    class FeatureMean(GradCAM):
        method = "feature_mean"

        def combine(self, activation, gradient):
            return activation.mean(dim=1)

    _, result = outcome(FeatureMean(layers="features.10"), trained, cases.image, draws=1)
    assert result.head == pytest.approx(1.0)
    assert any("do not depend on the head" in sentence for sentence in result.failures)


def test_guided_backpropagation_fails_as_it_is_known_to(trained, cases):
    class Positive(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient.clamp_min(0)

    class Guided(TargetwiseExplainer):
        method = "guided"

        def attribute(self, subject, target, scores):
            relus = [part for part in subject.module.modules() if isinstance(part, torch.nn.ReLU)]
            hooks = [relu.register_forward_hook(lambda _, __, output: Positive.apply(output)) for relu in relus]
            image = subject.inputs["image"].clone().requires_grad_()
            score = subject.target_scores(subject.scores({"image": image}), target).sum()
            (gradient,) = torch.autograd.grad(score, image)
            for hook in hooks:
                hook.remove()
            return Attribution(maps={"image": gradient.sum(dim=1)})

    _, result = outcome(Guided(), trained, cases.image)
    assert result.passes is False
    assert result.excess[1] > 0.1


def test_only_the_first_cases_are_tested_whatever_the_batches(trained, cases):
    explainer = GradCAM(layers="features.10")
    rows, whole = outcome(explainer, trained, cases.image, cases=5, draws=1)
    assert len(rows) == len(whole.net) == 5
    test = RandomizationTest(explainer, cases=5, draws=1)
    batches = [cases.image[:4], cases.image[4:]]
    assert [len(test.add(trained, batch, explainer(trained, batch))) for batch in batches] == [4, 1]
    # Pairs know no batches; re-initialised networks have the statistics of theirs.
    assert test.result().pairs == pytest.approx(whole.pairs, abs=1e-4, nan_ok=True)
    assert test.add(trained, batches[0], explainer(trained, batches[0])) == []


def test_the_network_is_untouched(trained, cases, path_gradients):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    state, addresses = torch.get_rng_state(), [one.data_ptr() for one in trained.parameters()]
    outcome(path_gradients, trained, cases.image[:2], draws=1)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert [one.data_ptr() for one in trained.parameters()] == addresses
    assert all(one.requires_grad and one.grad is None for one in trained.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_result_repeats(trained, cases):
    first, second = (outcome(GradCAM(layers="features.10"), trained, cases.image[:3])[0] for _ in range(2))
    assert first == second


class Refusing(TargetwiseExplainer):
    """Explains the trained network only."""

    method = "refusing"

    def __init__(self, module):
        self.weight = module.head.weight.detach().clone()

    def attribute(self, subject, target, scores):
        if not torch.equal(subject.module.head.weight, self.weight):
            raise ExplanationError("not this one")
        return Attribution(maps={"image": subject.inputs["image"][:, 0]})


def test_a_method_that_refuses_random_networks_is_not_judged(trained, cases):
    rows, result = outcome(Refusing(trained), trained, cases.image[:2], draws=1)
    assert result.passes is None
    assert np.isnan(rows[0]["net"])


def test_empty_maps_are_not_judged(trained, cases):
    class Nothing(TargetwiseExplainer):
        method = "nothing"

        def attribute(self, subject, target, scores):
            return Attribution(maps={"image": torch.zeros_like(subject.inputs["image"][:, 0])})

    assert outcome(Nothing(), trained, cases.image[:3], draws=1)[1].passes is None


def given(net, pairs, head=0.0):
    count = len(net)
    grid = np.full((count, count), float(pairs))
    np.fill_diagonal(grid, np.nan)
    zeros = np.zeros(count)
    return Randomization(
        net=np.array(net), head=np.full(count, head), pairs=grid, net_ssim=zeros, head_ssim=zeros, vanished=0.0
    )


@pytest.mark.parametrize(
    ("net", "pairs", "head", "passes"),
    [
        ([0.5, 0.55, 0.6, 0.5], 0.2, 0.0, False),  # beyond pairs, and not negligible
        ([0.5, 0.55, 0.6, 0.5], 0.6, 0.0, True),  # no more alike than maps of different cases
        ([0.2, 0.25, 0.2, 0.25], 0.0, 0.0, True),  # beyond pairs, but negligible
        ([0.9, 0.9, 0.9, 0.9], 1.0, 0.0, False),  # the same for all cases
        ([0.0, 0.1, 0.0, 0.1], 0.3, 0.99, False),  # blind to the head
        ([0.9, -0.3, 0.8, 0.0], 0.2, 0.0, True),  # above pairs in the mean, but not beyond chance
    ],
)
def test_the_rule(net, pairs, head, passes):
    result = given(net, pairs, head)
    assert result.passes is passes
    assert bool(result.failures) is not passes
    assert result.excess[0] == pytest.approx(np.mean(net) - pairs)


def test_a_few_cases_can_only_fail():
    assert np.isnan(given([0.6], np.nan).excess).all()
    assert given([0.6], np.nan).passes is None  # one case cannot pass
    assert given([0.8], np.nan).passes is False  # but fail
    assert given([0.6, 0.6], 0.1).passes is None


def test_captums_guided_backpropagation_fails_by_its_file(trained, cases):
    method = build(OmegaConf.load(conf_dir() / "explainer" / "guided_backprop.yaml"), "guided_backprop")
    rows = Scorecard(method, settings=JudgingSettings(scope="cheap"))
    rows.judge(trained, cases.image, method(trained, cases.image))
    verdict = rows.verdict()
    assert verdict.passes is False
    assert "hardly depend on what was learned" in verdict.failures[0]
