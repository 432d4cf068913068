"""Known answers of LRP, FullGrad, RISE, and the newer class activation maps."""

import numpy as np
import pytest
import torch
from torch import nn

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain import (
    KPCACAM,
    LRP,
    RISE,
    AblationCAM,
    DiffCAM,
    EigenCAM,
    FullGrad,
    GradCAM,
    InputXGradient,
    JudgingSettings,
    Scorecard,
    ShapleyCAM,
    find_incomplete,
)
from seewhy.explain.gradient.base import make_generator
from seewhy.explain.gradient.full_grad import enlarge_keeping_sum
from seewhy.explain.rise import draw_mask

RULES = ("epsilon", "gamma", "z_plus", "composite")


def plain(axes, *, bias, seed=0):
    """Convolutions, batch normalisation, pooling and two linear layers."""
    torch.manual_seed(seed)
    conv = nn.Conv2d if axes == 2 else nn.Conv3d
    norm = nn.BatchNorm2d if axes == 2 else nn.BatchNorm3d
    pool = nn.MaxPool2d if axes == 2 else nn.MaxPool3d
    net = nn.Sequential(
        conv(1, 4, 3, padding=1, bias=bias), norm(4) if bias else nn.Identity(), nn.ReLU(inplace=True), pool(2),
        conv(4, 6, 3, stride=2, bias=bias), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5, bias=bias), nn.ReLU(),
        nn.Linear(5, 3, bias=bias),
    )  # fmt: skip
    net(torch.zeros(1, 1, *[12] * axes))
    if bias:
        nn.init.uniform_(net[1].running_mean, -0.3, 0.3)
        nn.init.uniform_(net[1].running_var, 0.2, 1)
        nn.init.uniform_(net[1].bias, -0.3, 0.3)
    return net.eval()


# -- LRP --


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("rule", RULES)
def test_relevance_is_conserved(axes, rule):
    """Without biases the map sums to the score; with biases they take the rest, which `completeness` counts."""
    image = torch.randn(3, 1, *[12] * axes)
    maps = LRP(rule=rule, eps=0)(plain(axes, bias=False), image, target=[0, 1, 2])
    score = maps.scores.gather(1, maps.target[:, None])[:, 0]
    assert maps.maps["image"].flatten(1).sum(dim=1) == pytest.approx(score, abs=1e-5)
    assert LRP(rule=rule)(plain(axes, bias=True), image, target=1).completeness.max() < 1e-4


def test_rules_by_hand():
    """One output, two inputs: z = 2·3 − 1·4 + 1 = 3, whose relevance is 3."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1))
    net[1].weight.data, net[1].bias.data = torch.tensor([[3.0, -1.0]]), torch.tensor([1.0])
    image = torch.tensor([2.0, 4.0]).reshape(1, 1, 1, 2)

    def explain(**options):
        return LRP(**options)(net, image, target=1).maps["image"].flatten().tolist()

    assert explain(rule="epsilon", eps=0) == pytest.approx([6, -4])
    assert explain(rule="z_plus") == pytest.approx([3 * 6 / 7, 0])  # the positive bias takes 3/7
    # γ = 1: counted are 6 + 6, −4 and a bias of 1 + 1; they sum to 10
    assert explain(rule="gamma", gamma=1) == pytest.approx([3 * 12 / 10, 3 * -4 / 10])


def test_the_rule_epsilon_of_a_relu_network_is_input_times_gradient():
    net, image = plain(2, bias=True), torch.randn(2, 1, 12, 12)
    expected = InputXGradient()(net, image, target=1).maps["image"]
    assert torch.allclose(LRP(rule="epsilon", eps=0)(net, image, target=1).maps["image"], expected, atol=1e-5)


def test_a_network_without_rules_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    with pytest.raises(ExplanationError, match="layer_norm"):
        LRP()(net, torch.randn(2, 1, 4, 4))
    with pytest.raises(ConfigError, match="epsilon"):
        LRP(rule="epsilo")


def test_several_inputs_share_the_score(nets, three):
    net = nets.Branches().eval()
    maps = LRP()(net, three, target=2)
    assert set(maps.maps) == set(three)
    assert maps.completeness.max() < 1e-3


# -- FullGrad --


@pytest.mark.parametrize("axes", [2, 3])
def test_full_gradients_sum_to_the_score(axes):
    net, image = plain(axes, bias=True), torch.randn(2, 1, *[12] * axes)
    maps = FullGrad()(net, image, target=1)
    assert maps.completeness.max() < 1e-5
    assert not find_incomplete(maps).any()
    smooth = nn.Sequential(*[nn.SiLU() if isinstance(part, nn.ReLU) else part for part in net])
    assert FullGrad()(smooth, image, target=1).completeness.max() < 1e-4


def test_biases_of_branches_belong_to_their_inputs(nets, three):
    net = nets.Branches().eval()
    maps = FullGrad()(net, three, target=2)
    assert maps.completeness.max() < 1e-4
    silent = {**three, "third": torch.zeros_like(three["third"])}
    assert FullGrad()(net, silent, target=2).maps["third"].abs().sum() > 0  # its biases; input times gradient has none


def test_gates_outside_of_layers_are_reported():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            x = self.conv(x)
            return self.head((x * x.sigmoid()).mean((2, 3)))

    torch.manual_seed(0)
    assert find_incomplete(FullGrad()(Gated(), torch.randn(2, 1, 8, 8))).all()


def test_spreading_keeps_sums():
    coarse = torch.randn(2, 3, 5)
    assert enlarge_keeping_sum(coarse, (10, 11)).sum(dim=(1, 2)) == pytest.approx(coarse.sum(dim=(1, 2)), abs=1e-5)


# -- RISE --


def test_a_map_is_the_mean_probability_of_the_masks_that_show_a_pixel():
    torch.manual_seed(0)
    net, image = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), torch.rand(2, 1, 6, 8)
    masks = torch.stack([draw_mask((6, 8), 3, 0.4, make_generator(5, step, 0)) for step in range(9)])
    probability = torch.stack([net(image * mask).softmax(dim=1)[:, 1] for mask in masks])
    expected = (
        torch.einsum("mb,mhw->bhw", probability, masks) / masks.sum(dim=0) - probability.mean(dim=0)[:, None, None]
    )
    maps = RISE(masks=9, cells=3, keep=0.4, fill="zero", seed=5)(net, image, target=1)
    assert torch.allclose(maps.maps["image"], expected, atol=1e-5)


def test_masks_are_shifted_grids_in_2d_and_3d():
    for shape in ((9, 13), (4, 9, 13)):
        drawn = torch.stack([draw_mask(shape, 4, 0.3, make_generator(0, step)) for step in range(300)])
        assert drawn.shape[1:] == shape
        assert 0 <= drawn.min() <= drawn.max() <= 1
        assert float(drawn.mean()) == pytest.approx(0.3, abs=0.03)


# -- class activation maps --


def mean_head(image, *, function=None):
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, *([function] if function else []), nn.Linear(4, 3)).eval()


def test_the_fall_without_a_channel_of_a_linear_head(images):
    net = mean_head(images)
    features = net[:2](images)
    weights = net[4].weight[[0, 2, 1]] * features.mean(dim=(2, 3))
    maps = AblationCAM(layers="1")(net, images, target=[0, 2, 1])
    assert torch.allclose(maps.maps["image"], torch.einsum("bc,bchw->bhw", weights, features), atol=1e-5)
    some = AblationCAM(layers="1", channels=2)(net, images, target=1)
    assert not torch.allclose(some.maps["image"], maps.maps["image"])


def test_ablation_of_shared_branches_of_slices_and_of_tokens(nets, three, images):
    net = nets.Branches(shared=True).eval()
    maps = AblationCAM(layers="backbones.0")(net, three, target=1)
    other = AblationCAM(layers="backbones.0")(net, {**three, "third": torch.zeros_like(three["third"])}, target=1)
    assert maps.maps["second"].shape == three["second"].shape[:1] + three["second"].shape[2:]
    assert not torch.equal(maps.maps["third"], other.maps["third"])
    volume = torch.randn(2, 1, 3, 20, 28)
    sliced = nets.Slices(nets.Net()).eval()
    assert AblationCAM(layers="net.features.4")(sliced, volume).maps["image"].shape == (2, 3, 20, 28)


def test_the_linear_kernel_is_eigen_cam_and_others_are_those_of_scikit_learn(images):
    decomposition = pytest.importorskip("sklearn.decomposition")
    net = mean_head(images)
    linear, eigen = (
        one(net, images).maps["image"] for one in (KPCACAM(layers="1", kernel="linear"), EigenCAM(layers="1"))
    )
    assert torch.allclose(linear, eigen, atol=1e-4)
    points = net[:2](images)[0].flatten(1).T.detach().double().numpy()
    points = points - points.mean(axis=0)
    for kernel in ("rbf", "sigmoid"):
        found = KPCACAM(layers="1", kernel=kernel)(net, images).maps["image"][0].flatten().numpy()
        known = decomposition.KernelPCA(1, kernel=kernel).fit_transform(points)[:, 0]
        assert np.abs(found) == pytest.approx(np.abs(known), abs=1e-4)


def test_shapley_cam_is_exact_for_a_quadratic_score(images):
    class Square(nn.Module):
        def forward(self, x):
            return x**2 + 3 * x

    net = mean_head(images, function=Square())
    features = net[:2](images)
    mean = features.mean(dim=(2, 3))
    shapley = net[5].weight[1] * (mean**2 + 3 * mean)  # of a sum of functions of one channel each
    weights = shapley / mean.where(mean > 0, 1) / features[0, 0].numel()
    expected = torch.einsum("bc,bchw->bhw", weights, features)
    assert torch.allclose(ShapleyCAM(layers="1")(net, images, target=1).maps["image"], expected, atol=1e-6)
    assert not torch.allclose(GradCAM(layers="1")(net, images, target=1).maps["image"], expected, atol=1e-6)


def test_diff_cam_needs_no_head(images, tmp_path):
    encoder = mean_head(images)[:4]
    references = torch.zeros(2, 1, 20, 28)
    features, other = encoder[:2](images), encoder(references).mean(dim=0)
    expected = torch.einsum("bc,bchw->bhw", encoder(images) - other, features)
    maps = DiffCAM(layers="1", references=references)(encoder, images)
    assert torch.allclose(maps.maps["image"], expected, atol=1e-5)
    np.savez(tmp_path / "healthy.npz", image=references.numpy())
    stored = DiffCAM(layers="1", references=str(tmp_path / "healthy.npz"))(encoder, images)
    assert torch.equal(stored.maps["image"], maps.maps["image"])
    without = DiffCAM(layers="1")(encoder, images).maps["image"]
    means = encoder(images)
    weights = means[0] - means[1:].mean(dim=0)
    assert torch.allclose(without[0], torch.einsum("c,chw->hw", weights, features[0]), atol=1e-5)
    with pytest.raises(ConfigError, match="references"):
        DiffCAM(layers="1")(encoder, images[:1])


@pytest.mark.parametrize("method", [LRP(), FullGrad(), RISE(masks=20), AblationCAM(layers="features.4"),
                                    ShapleyCAM(layers="features.4")])  # fmt: skip
def test_each_gets_a_verdict_and_leaves_the_module_alone(method, nets, images):
    net = nets.Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    card = Scorecard(method, settings=JudgingSettings(scope="cheap", redraws=1))
    card.judge(net, images, method(net, images))
    assert card.verdict().passes is not None
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
