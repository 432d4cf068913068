"""The networks of CycleGAN-2.5D: sizes, names, and that explanations can read them."""

import pytest
import torch
from torch import nn

import seewhy.explain as explain
from seewhy.errors import ConfigError
from seewhy.explain.attention.gates import read_channel_gates
from seewhy.nets.generators.base import centre_slice
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from seewhy.nets.generators.published import NCE_CHANNELS, PlainGenerator25D, SAGenerator25D


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("build", "parameters", "tensors"),
    [
        (SAGenerator25D, 11_854_206, 88),
        (MultiScaleDiscriminator, 5_694_212, 48),
        (PlainGenerator25D, 11_409_540, 48),
        (lambda: MultiScaleDiscriminator(attention=False), 5_531_522, 40),
    ],
)
def test_published_sizes(build, parameters, tensors):
    with torch.device("meta"):
        net = build()
    assert (count(net), len(net.state_dict())) == (parameters, tensors)


def test_parts_of_the_published_generator():
    with torch.device("meta"):
        net = SAGenerator25D()
    sizes = {}
    for name, part in net.named_modules():
        kind = type(part).__name__
        if kind in ("CBAM", "SelfAttention2d"):
            sizes.setdefault(kind, []).append((name, count(part)))
    assert len(sizes["CBAM"]) == 11
    assert sum(size for _, size in sizes["CBAM"]) == 63_542
    assert [name for name, _ in sizes["SelfAttention2d"]] == [f"bottleneck.{n}.attention" for n in (3, 4, 5)] + [
        "global_attention"
    ]
    assert sum(size for _, size in sizes["SelfAttention2d"]) == 345_412


@pytest.fixture
def stack():
    return torch.rand(2, 12, 32, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1


def small(**options):
    torch.manual_seed(3)
    return SAGenerator25D(width=8, blocks=3, attention_blocks=(1,), **options).eval()


@pytest.mark.parametrize("kind", [SAGenerator25D, PlainGenerator25D])
def test_size_in_is_size_out(kind, stack):
    net = kind(width=8, blocks=2, **({"attention_blocks": [1]} if kind is SAGenerator25D else {}))
    image = net(stack)
    assert image.shape == (2, 4, 32, 40)
    assert image.abs().max() < 1
    image.mean().backward()
    unused = [name for name, one in net.named_parameters() if one.grad is None]
    assert not unused


@pytest.mark.parametrize("kind", [SAGenerator25D, PlainGenerator25D])
def test_a_residual_generator_starts_as_the_identity(kind, stack):
    options = {"width": 8, "blocks": 1, **({"attention_blocks": ()} if kind is SAGenerator25D else {})}
    net = kind(**options, output="residual")
    assert torch.equal(net(stack), centre_slice(stack, 4))
    net(stack).square().mean().backward()
    assert net.output[-1].weight.grad.abs().sum() > 0
    assert kind(**options, output="sigmoid")(stack).min() > 0


def test_every_input_channel_counts(stack):
    net = small()
    first = net(stack)
    for channel in range(12):
        changed = stack.clone()
        changed[:, channel] = torch.rand(stack[:, channel].shape)  # a shift alone is normalised away
        assert (net(changed) - first).abs().max() > 1e-6


def test_the_decoder_adds_the_last_map_first(stack):
    """The published order, one stage off what one would expect: H/4 to the first stage, H/2 to the second."""
    net, seen = small(), {}
    for name in ("encoder_initial", "encoder.0", "encoder.1", "skip_fuse.0", "skip_fuse.1"):
        net.get_submodule(name).register_forward_hook(
            lambda _, given, output, name=name: seen.update({name: (given[0], output)})
        )
    net(stack)
    assert torch.equal(seen["skip_fuse.0"][0], seen["encoder.1"][1])
    assert torch.equal(seen["skip_fuse.1"][0], seen["encoder.0"][1])


def test_features_are_those_of_the_forward(stack):
    torch.manual_seed(0)
    net, seen = SAGenerator25D(width=8).eval(), {}
    for name in ("encoder_initial", "encoder.0", "encoder.1", "bottleneck.2", "bottleneck.5"):
        net.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    with torch.no_grad():
        net(stack)
        expected = list(seen.values())
        found = net.features(stack)
    assert [one.shape[1] for one in found] == [8 * scale for scale in NCE_CHANNELS]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert [one.shape[1] for one in small().features(stack)] == [8, 16, 32, 32, 32]


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 12, 30, 32), "multiples of 4"), ((1, 4, 32, 32), r"\(1, 4, 32, 32\).*\[B, 12, H, W\]")],
)
def test_stacks_that_do_not_fit(shape, words):
    with pytest.raises(ConfigError, match=words):
        small()(torch.zeros(shape))


def test_options_that_do_not_exist():
    with pytest.raises(ConfigError, match=r"output='tan'.*nearest: 'tanh'"):
        small(output="tan")
    with pytest.raises(ConfigError, match=r"attention_blocks=\[3\].*0 to 2"):
        SAGenerator25D(width=8, blocks=3, attention_blocks=(1, 3))
    with pytest.raises(ConfigError, match=r"slices=2.*odd"):
        PlainGenerator25D(width=8, slices=2)


class Scored(nn.Module):
    """A generator whose mean output per modality stands for class scores."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image).mean((2, 3))


def test_gates_and_attention_can_be_read(stack):
    net = small()
    scored, gates = Scored(net), []
    hook = net.decoder[1][3].spatial_attn.register_forward_hook(lambda _, __, output: gates.append(output))
    maps = explain.Gates()(scored, stack)
    hook.remove()
    assert gates[0].shape == (2, 1, 32, 40)
    assert torch.allclose(maps.maps["image"], gates[0][:, 0])
    assert maps.layers == {"image": "net.decoder.1.3.spatial_attn"}

    names = {name for name, part in net.named_modules() if name.endswith("channel_attn")}
    found = read_channel_gates(scored, stack)
    assert set(found) == {f"net.{name}" for name in names}
    assert found["net.bottleneck.0.attention.channel_attn"].shape == (2, 32)

    seen = []
    attention = net.global_attention
    attention.query.register_forward_hook(lambda _, __, output: seen.append(output.flatten(2).mT))
    attention.key.register_forward_hook(lambda _, __, output: seen.append(output.flatten(2).mT))
    maps = explain.SelfAttention(query=[9, 30])(scored, stack)
    weights = (seen[0] @ seen[1].mT / seen[0].shape[2] ** 0.5).softmax(dim=2)
    row = weights[:, (9 // 4) * 10 + 30 // 4].reshape(2, 1, 8, 10)
    expected = nn.functional.interpolate(row, (32, 40), mode="bilinear", align_corners=False)[:, 0]
    assert torch.allclose(maps.maps["image"], expected, atol=1e-6)
    assert maps.layers == {"image": "net.global_attention"}
    assert torch.allclose(maps.scores, scored(stack), atol=1e-5)
    assert explain.SelfAttention(block=0)(scored, stack).layers == {"image": "net.bottleneck.1.attention"}


def test_a_patch_is_70_pixels_wide():
    """The receptive field, read off the gradient of one score of the network without what looks everywhere."""
    torch.manual_seed(0)
    net = PatchDiscriminator(channels=1, width=4, attention=False)
    for part in net.modules():
        if hasattr(part, "block") or isinstance(part, nn.Sequential):
            for name, child in part.named_children():
                if isinstance(child, nn.InstanceNorm2d):
                    setattr(part, name, nn.Identity())
    image = torch.randn(1, 1, 128, 128, requires_grad=True)
    net(image)[0, 0, 7, 7].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_scores_at_two_scales():
    torch.manual_seed(0)
    net = MultiScaleDiscriminator(channels=4, width=8)
    image = torch.rand(2, 4, 64, 80)
    fine, coarse = net(image)
    assert (fine.shape, coarse.shape) == ((2, 1, 6, 8), (2, 1, 2, 3))
    net.eval()
    halved = nn.functional.avg_pool2d(image, 3, 2, 1)
    assert torch.equal(net(image)[1], net.discriminators[1](halved))
    with pytest.raises(ConfigError, match=r"\(46, 64\).* 2 scales .*47"):
        net(torch.rand(1, 4, 46, 64))
    assert net(torch.rand(1, 4, 47, 47))[1].shape == (1, 1, 1, 1)


def test_spectral_norm_holds_and_is_exact_under_autocast():
    torch.manual_seed(0)
    net = PatchDiscriminator(channels=4, width=8)
    image = torch.rand(1, 4, 32, 32)
    for _ in range(300):  # power iterations
        net(image)
    convs = [part for part in net.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (4, 4)]
    assert len(convs) == 5
    for conv in convs:
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.01)
    before = [conv.parametrizations.weight[0]._u.clone() for conv in convs]
    twin = PatchDiscriminator(channels=4, width=8)
    twin.load_state_dict(net.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert net(image).dtype == torch.bfloat16
    twin(image)
    for one, other, old in zip(net.named_buffers(), twin.named_buffers(), before * 2, strict=False):
        assert torch.equal(one[1], other[1])
        assert old.dtype == one[1].dtype == torch.float32
