"""DeepLIFT: equal to Captum's where that is right, complete where it is not, refused otherwise."""

import captum.attr
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18

from seewhy.errors import ExplanationError
from seewhy.explain import DeepLift


def settled(net, image):
    """A network with the batch statistics of data, so that its activations are of the order of 1."""
    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None
    with torch.no_grad():
        net.train()(image)
    return net.eval()


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("act", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.ELU, nn.LeakyReLU])
def test_maps_equal_captums(axes, act):
    torch.manual_seed(0)
    conv, norm = [(nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d)][axes - 2]
    net = nn.Sequential(
        *[conv(2, 6, 3, padding=1), norm(6), act(), conv(6, 8, 3, 2), act(), nn.Flatten()],
        *[nn.Linear(8 * 3**axes, 5), act(), nn.Linear(5, 3)],
    )
    net.double().eval()  # in single precision Captum's quotients of small differences are rounding
    image = torch.randn(3, 2, *[8] * axes, dtype=torch.float64)
    peer = captum.attr.DeepLift(net).attribute(image, torch.full_like(image, -0.4), target=[2, 0, 1])
    ours = DeepLift(baseline=-0.4)(net, image, target=[2, 0, 1])
    torch.testing.assert_close(ours.maps["image"], peer.detach().sum(dim=1).float(), rtol=1e-5, atol=1e-7)
    assert ours.completeness.max() < 1e-4


@pytest.mark.parametrize("axes", [2, 3])
def test_max_pooling_equals_captums_where_its_sums_hold(axes):
    torch.manual_seed(0)
    conv, pool = [(nn.Conv2d, nn.MaxPool2d), (nn.Conv3d, nn.MaxPool3d)][axes - 2]
    last = nn.Linear(6 * 4**axes, 3)
    image = torch.randn(3, 2, *[8] * axes)
    start = torch.full_like(image, -0.4)
    for act, holds in ((nn.Identity(), True), (nn.Sigmoid(), False)):  # Captum 0.9 misses with an activation beside it
        net = nn.Sequential(conv(2, 6, 3, padding=1), act, pool(2), nn.Flatten(), last).eval()
        peer, missed = captum.attr.DeepLift(net).attribute(image, start, target=0, return_convergence_delta=True)
        ours = DeepLift(baseline=-0.4)(net, image, target=0)
        assert ours.completeness.max() < 1e-4
        if holds:
            assert missed.abs().max() < 1e-5
            torch.testing.assert_close(ours.maps["image"], peer.detach().sum(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda: timm.create_model("efficientnet_b0", num_classes=3),
        lambda: timm.create_model("tf_efficientnet_lite0", num_classes=3),
        lambda: timm.create_model("mobilenetv3_small_100", num_classes=3),
        lambda: timm.create_model("convnext_atto", num_classes=3),
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64, depth=3),
        lambda: resnet18(num_classes=3),
    ],
    ids=["efficientnet_b0", "efficientnet_lite0", "mobilenetv3", "convnext", "vit", "torchvision_resnet18"],
)
def test_real_networks_add_up(build):
    torch.manual_seed(0)
    image = torch.randn(4, 3, 64, 64)
    net = settled(build(), image)
    maps = DeepLift(baseline="mean")(net, image[:2], target=[0, 2])
    assert maps.completeness.max() < 1e-3
    assert maps.maps["image"].abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["efficientnetv2_s", "tf_efficientnetv2_s", "swin_tiny_patch4_window7_224", "densenet121"]
)
def test_larger_networks_add_up(name):
    torch.manual_seed(0)
    image = torch.randn(4, 3, 96, 96)
    net = settled(timm.create_model(name, num_classes=3, **({"img_size": 96} if "swin" in name else {})), image)
    assert DeepLift(baseline="mean")(net, image[:2], target=[0, 2]).completeness.max() < 1e-3


def test_a_network_of_monai_in_3d_adds_up():
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    image = torch.randn(3, 1, 24, 24, 24)
    net = settled(DenseNet121(3, 1, 2, init_features=16, growth_rate=8, block_config=(2, 2, 2)), image)
    assert DeepLift()(net, image[:2], target=1).completeness.max() < 1e-3


class Pieces(nn.Module):
    """A function between two linear layers, in double precision, where a rule that is exact shows it."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.double()
        with torch.no_grad():
            count = self.function(self.first(torch.randn(2, 1, 8, 8, dtype=torch.float64))).flatten(1).shape[1]
        self.last = nn.Linear(count, 2).double()

    def forward(self, image):
        return self.last(self.function(self.first(image)).flatten(1))


def in_place(x):
    y = x + 0
    functional.silu(y, inplace=True)  # its value is looked at under the old name
    y.sigmoid_()
    y *= x
    y += 1
    return functional.elu(y, 1.0, True)


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double().eval()


ATTENTION = seeded(lambda: nn.MultiheadAttention(8, 2, batch_first=True))
FUNCTIONS = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "hardswish": nn.Hardswish(inplace=True),
    "hardsigmoid": functional.hardsigmoid,
    "mish": functional.mish,
    "selu": nn.SELU(inplace=True),
    "celu": nn.CELU(1.3, inplace=True),
    "threshold": nn.Threshold(0.1, 0.0, inplace=True),
    "relu6": nn.ReLU6(inplace=True),
    "prelu": nn.PReLU(6, 0.3).double(),
    "method": lambda x: x.tanh().exp(),
    "clamp": lambda x: x.clamp(min=-0.2, max=0.3),
    "powers": lambda x: (x**2 + 0.1).sqrt() + x.pow(3) + 2 * x.abs(),
    "in_place": in_place,
    "reused": lambda x: functional.silu(functional.silu(x)),
    "gate": lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid(),
    "ratio": lambda x: x / (1 + x.square().sum(dim=1, keepdim=True)),
    "reciprocal": lambda x: 1 / (1.5 + x.sigmoid()),
    "softmax": lambda x: x.softmax(dim=1) * x,
    "log_softmax": nn.LogSoftmax(dim=1),
    "layer_norm": nn.LayerNorm([6, 8, 8]).double(),
    "group_norm": nn.GroupNorm(3, 6).double(),
    "instance_norm": nn.InstanceNorm2d(6, affine=True).double(),
    "normalize": lambda x: functional.normalize(x.square(), dim=1, p=1),
    "overlapping_pool": lambda x: functional.max_pool2d(x.sigmoid(), 3, 2, 1),
    "pool_with_indices": lambda x: functional.max_pool2d(x, 2, return_indices=True)[0],
    "global_max": nn.AdaptiveMaxPool2d(1),
    "amax": lambda x: x.amax(dim=(2, 3)),
    "channel_max": lambda x: x.max(dim=1)[0],
    "channel_max_kept": lambda x: torch.max(x, dim=-1, keepdim=True).values,
    "maximum": lambda x: torch.maximum(x, x.roll(1, 2)) - torch.minimum(x, x.flip(3)),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x.sigmoid()),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x.tanh(), x),
    "causal_attention": lambda x: functional.scaled_dot_product_attention(x, x, x.tanh(), is_causal=True),
    "multi_head": lambda x: ATTENTION(*[x.flatten(1, 2)] * 3, need_weights=False)[0],
    "multi_head_with_weights": lambda x: ATTENTION(*[x.flatten(1, 2)] * 3)[0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_rule_is_exact(name):
    image = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net = Pieces(FUNCTIONS[name])
    maps = DeepLift(baseline=0.3)(net, image, target=[0, 1, 0])
    with torch.no_grad():
        gain = (net(image) - net(torch.full_like(image, 0.3)))[[0, 1, 2], [0, 1, 0]]
        plain = net(image)
    torch.testing.assert_close(maps.scores, plain.float())
    torch.testing.assert_close(maps.maps["image"].double().sum(dim=(1, 2)), gain, rtol=1e-4, atol=1e-5)
    assert gain.abs().min() > 1e-3


def test_several_inputs_add_up_together(nets, three):
    net = nets.Branches()
    maps = DeepLift()(net, three, target=[3, 0, 1])
    assert maps.completeness.max() < 1e-4
    assert all(one.abs().max() > 0 for one in maps.maps.values())


def test_an_image_that_is_its_own_reference_has_an_empty_map(nets):
    maps = DeepLift(baseline=0.5)(nets.Net(), torch.full((2, 1, 20, 20), 0.5), target=0)
    assert not maps.maps["image"].any()
    assert maps.completeness.max() < 0.05


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (Hidden.apply, "misses the difference .*without a rule: Hidden.*integrated_gradients"),
        (lambda x: x.where(x > 0, 0.1 * x) * 3, "without a rule: where"),
        (nn.BatchNorm2d(6, track_running_stats=False).double(), "mixes samples"),
        (lambda x: x[:, :5].transpose(0, 1).square().transpose(0, 1), "'square'.*first axis"),
        (lambda x: x.sigmoid() * torch.nan, "not finite.*nan"),
    ],
    ids=["own_function", "where", "batch_statistics", "other_axis", "nan"],
)
def test_what_cannot_be_right_is_refused_and_nothing_stays_changed(function, words):
    net = Pieces(function)
    image = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = net.eval()(image).detach() if "nan" not in words else None
    with pytest.raises(ExplanationError, match=words):
        DeepLift(baseline=0.3)(net, image, target=0)
    if before is not None:
        assert torch.equal(net(image), before)
    x = torch.randn(5, requires_grad=True)
    assert torch.equal(torch.autograd.grad(functional.relu(x).sum(), x)[0], (x > 0).float())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_the_tolerance_is_the_users(nets):
    net = Pieces(Hidden.apply)
    image = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    maps = DeepLift(baseline=0.3, tolerance=1e6)(net, image, target=0)
    assert maps.completeness.max() > 0.05
