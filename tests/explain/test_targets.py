"""Targets by name, contrasts of two classes, and their maps by every method that depends on the class."""

import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain import (
    AttentionRelevance,
    CaptumMethod,
    DeepLift,
    EigenCAM,
    FinerCAM,
    GradCAM,
    GradCAMPlusPlus,
    GradientSHAP,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    LayerCAM,
    NoiseTunnel,
    Occlusion,
    Saliency,
    ScoreCAM,
    XGradCAM,
    leave_one_out,
    measure_faithfulness,
)
from seewhy.explain.targets import find_contrast, resolve_targets

NAMES = ("normal", "early", "late-stage", "1")
SCORES = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 1.0, 2.0, 5.0]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("early-normal", (1, 0)),
        ("late-stage-early", (2, 1)),
        ("early-late-stage", (1, 2)),
        ("predicted-runner_up", ("predicted", "runner_up")),
        ("1-0", (3, 0)),  # a name comes before an index
        ("late-stage", None),
        ("early", None),
        ("-1", None),
    ],
)
def test_contrasts_are_split_where_both_sides_are_classes(text, expected):
    assert find_contrast(text, NAMES, 4, "target") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [("erly-normal", "'early'"), ("early-early", "itself"), ("runner_up-early", "runner_up"), ("early-7", "0 to 3")],
)
def test_contrasts_without_two_classes_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        find_contrast(text, NAMES, 4, "target")


def test_a_contrast_that_can_be_read_in_two_ways_is_refused():
    with pytest.raises(ConfigError, match="2 ways"):
        find_contrast("a-b-c", ("a", "b-c", "a-b", "c"), 4, "target")


def test_words_of_a_contrast_are_resolved_for_each_sample():
    assert resolve_targets("predicted-runner_up", SCORES, NAMES).tolist() == [[0, 1], [3, 2]]
    assert resolve_targets("early-runner_up", SCORES, NAMES).tolist() == [[1, 0], [1, 3]]
    assert resolve_targets(torch.tensor([[1, 0], [2, 3]]), SCORES, ()).tolist() == [[1, 0], [2, 3]]
    assert resolve_targets(["early-normal", "1-early"], SCORES, NAMES).tolist() == [[1, 0], [3, 1]]
    assert resolve_targets("predicted-runner_up", torch.tensor([[0.3], [-0.3]]), ()).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ExplanationError, match="class normal would be contrasted with itself"):
        resolve_targets("predicted-normal", SCORES, NAMES)
    with pytest.raises(ConfigError, match="mixes"):
        resolve_targets(["early", "early-normal"], SCORES, NAMES)


class Difference(nn.Module):
    """The difference of two columns as a single one."""

    def __init__(self, net, first, second):
        super().__init__()
        self.net, self.pair = net, (first, second)

    def forward(self, image):
        scores = self.net(image)
        return (scores[:, self.pair[0]] - scores[:, self.pair[1]])[:, None]


METHODS = {
    "grad_cam": lambda layer: GradCAM(layers=layer),
    "grad_cam_plus_plus": lambda layer: GradCAMPlusPlus(layers=layer),
    "hires_cam": lambda layer: HiResCAM(layers=layer),
    "layer_cam": lambda layer: LayerCAM(layers=layer),
    "xgrad_cam": lambda layer: XGradCAM(layers=layer),
    "finer_cam": lambda layer: FinerCAM(layers=layer),
    "score_cam": lambda layer: ScoreCAM(layers=layer),
    "eigen_cam": lambda layer: EigenCAM(layers=layer),
    "saliency": lambda layer: Saliency(),
    "input_x_gradient": lambda layer: InputXGradient(),
    "integrated_gradients": lambda layer: IntegratedGradients(steps=4),
    "gradient_shap": lambda layer: GradientSHAP(samples=4),
    "deep_lift": lambda layer: DeepLift(),
    "occlusion": lambda layer: Occlusion(window=6),
    "smooth_grad": lambda layer: NoiseTunnel(explainer=Saliency(), samples=3),
    "var_grad": lambda layer: NoiseTunnel(explainer=Saliency(), gather="variance", samples=3),
    "guided_backprop": lambda layer: CaptumMethod(attribution="GuidedBackprop"),
    "captum": lambda layer: CaptumMethod(attribution="IntegratedGradients", arguments={"n_steps": 4}),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_contrast_explains_the_difference_of_two_scores(nets, images, method):
    net = nets.Net().eval()
    pairs = torch.tensor([[2, 0], [1, 0], [0, 2]])
    maps = METHODS[method]("features.4")(net, images, target=pairs)
    assert maps.target.tolist() == [2, 1, 0]
    assert maps.reference.tolist() == [0, 0, 2]
    for row, (first, second) in enumerate(pairs.tolist()):
        alone = METHODS[method]("net.features.4")(
            Difference(net, first, second).eval(), images[row : row + 1], target=1
        )
        for values, expected in ((maps.maps, alone.maps), (maps.evidence(), alone.evidence())):
            assert torch.allclose(values["image"][row], expected["image"][0], atol=1e-5), method
        assert maps.probability[row] == pytest.approx(float(alone.probability), abs=1e-6)
        if maps.completeness is not None:
            assert maps.completeness[row] == pytest.approx(float(alone.completeness), abs=1e-3)


def test_a_contrast_of_a_transformer_is_the_difference_too():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=3).eval()
    image = torch.randn(2, 3, 160, 160)
    maps = AttentionRelevance()(net, image, target="2-0")
    alone = AttentionRelevance()(Difference(net, 2, 0).eval(), image, target=1)
    assert torch.allclose(maps.maps["image"], alone.maps["image"], atol=1e-5)


def test_scores_of_maps_are_of_the_contrast(nets, images):
    net = nets.Net().eval()
    other, explainer = Difference(net, 2, 0).eval(), InputXGradient()
    maps, alone = explainer(net, images, target="2-0"), explainer(other, images, target=1)
    curves = [measure_faithfulness(*one, steps=3, draws=1) for one in ((net, images, maps), (other, images, alone))]
    assert torch.allclose(curves[0].deletion_curve, curves[1].deletion_curve, atol=1e-5)
    effects = [leave_one_out(*one) for one in ((net, images, maps), (other, images, alone))]
    assert torch.allclose(effects[0].score["image"], effects[1].score["image"], atol=1e-5)


def test_a_part_of_a_batch_keeps_its_references(nets, images):
    maps = Saliency()(nets.Net().eval(), images, target="predicted-runner_up")
    assert torch.equal(maps[1:].cpu().explained, maps.explained[1:])
    assert Saliency()(nets.Net().eval(), images, target=1).explained.tolist() == [1, 1, 1]
