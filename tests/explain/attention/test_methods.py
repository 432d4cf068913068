"""Maps of attention against plain restatements of their definitions."""

import inspect

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn.functional import interpolate

import seewhy.explain as explain
from seewhy.errors import ConfigError
from seewhy.run.build import build
from seewhy.run.folder import conf_dir

METHODS = ["Attention", "AttentionRollout", "AttentionRelevance"]


class Tiny(nn.Module):
    """A class token and the patches of an image through a few blocks, written out; keeps its own matrices."""

    def __init__(self, *, depth=3, heads=2, patch=8, pooled=False):
        super().__init__()
        torch.manual_seed(11)
        self.patches = nn.Conv2d(1, 12, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.blocks = nn.ModuleList([Block(heads) for _ in range(depth)])
        self.head = nn.Linear(12, 3)
        self.pooled = pooled

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        if not self.pooled:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1) if self.pooled else x[:, 0])


class Block(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        nn.init.normal_(self.qkv.weight, std=0.6)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        self.weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.out((self.weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(x)


@pytest.fixture
def images():
    return torch.randn(3, 1, 24, 32, generator=torch.Generator().manual_seed(2))


def own_matrices(net, images, target=None):
    """The matrices of a forward, and their gradients of the target's score."""
    net.eval()
    scores = net(images)
    weights = [block.weights for block in net.blocks]
    if target is None:
        return [one.detach() for one in weights]
    gradients = torch.autograd.grad(scores[range(len(images)), target].sum(), weights)
    return [one.detach() for one in weights], gradients


def enlarged(tokens, images, grid=(3, 4)):
    return interpolate(tokens.reshape(-1, 1, *grid), images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def test_raw_attention_is_the_row_of_the_class_token(images):
    net = Tiny()
    matrices = own_matrices(net, images)
    for block in (0, 2, -1, -3):
        found = explain.Attention(block=block)(net, images).maps["image"]
        torch.testing.assert_close(found, enlarged(matrices[block].mean(1)[:, 0, 1:], images))
    found = explain.Attention(block=None)(net, images).maps["image"]
    mean = sum(enlarged(one.mean(1)[:, 0, 1:], images) for one in matrices) / 3
    torch.testing.assert_close(found, mean)
    found = explain.Attention(head=1)(net, images).maps["image"]
    torch.testing.assert_close(found, enlarged(matrices[-1][:, 1, 0, 1:], images))


def test_raw_attention_of_other_queries(images):
    net = Tiny()
    matrix = own_matrices(net, images)[-1].mean(1)
    found = explain.Attention(query="mean")(net, images)
    torch.testing.assert_close(found.maps["image"], enlarged(matrix[:, 1:, 1:].mean(1), images))
    assert any("mean over all" in note for note in found.notes)
    for pixel, token in (((0, 0), 0), ((7, 31), 3), ((8, 0), 4), ((23, 17), 10)):
        found = explain.Attention(query=pixel)(net, images)
        torch.testing.assert_close(found.maps["image"], enlarged(matrix[:, 1 + token, 1:], images))


def test_without_a_class_token_the_mean_over_places(images):
    net = Tiny(pooled=True)
    matrix = own_matrices(net, images)[-1].mean(1)
    torch.testing.assert_close(explain.Attention()(net, images).maps["image"], enlarged(matrix.mean(1), images))
    with pytest.raises(ConfigError, match=r"query=class.*blocks\.2.*12 tokens"):
        explain.Attention(query="class")(net, images)


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard", [0.0, 0.4])
def test_rollout_against_its_definition(images, fusion, discard):
    net = Tiny()
    rolled = torch.eye(13).repeat(3, 1, 1)
    for weights in own_matrices(net, images):
        fused = {"mean": weights.mean(1), "max": weights.amax(1), "min": weights.amin(1)}[fusion]
        for sample in fused:
            dropped = sample.flatten().sort().values[int(discard * 169)]
            sample[sample < dropped] = 0
        mixing = 0.5 * fused + 0.5 * torch.eye(13)
        rolled = (mixing / mixing.sum(dim=2, keepdim=True)) @ rolled
    found = explain.AttentionRollout(head_fusion=fusion, discard_ratio=discard)(net, images)
    torch.testing.assert_close(found.maps["image"], enlarged(rolled[:, 0, 1:], images))
    torch.testing.assert_close(rolled.sum(dim=2), torch.ones(3, 13))
    assert found.layers == {"image": "blocks.0 … blocks.2"}


@pytest.mark.parametrize("pooled", [False, True])
def test_relevance_against_its_definition(images, pooled):
    net, target = Tiny(pooled=pooled), [2, 0, 1]
    count, first = (12, 0) if pooled else (13, 1)
    relevance = torch.eye(count).repeat(3, 1, 1)
    for weights, gradient in zip(*own_matrices(net, images, target), strict=True):
        relevance = relevance + (gradient * weights).clamp(min=0).mean(1) @ relevance
    rows = (relevance - torch.eye(count)).mean(1) if pooled else relevance[:, 0, 1:]
    found = explain.AttentionRelevance()(net, images, target=target)
    torch.testing.assert_close(found.maps["image"], enlarged(rows, images), atol=1e-6, rtol=1e-4)
    assert (found.maps["image"] >= 0).all()
    assert found.maps["image"].flatten(1).any(dim=1).all()
    assert first == count - 12


def test_relevance_is_of_the_class_and_the_others_are_not(images):
    net = Tiny()
    one, other = explain.AttentionRelevance().for_targets(net, images, [0, 1])
    assert not torch.allclose(one.maps["image"], other.maps["image"])
    for name in ("Attention", "AttentionRollout"):
        one, other = getattr(explain, name)().for_targets(net, images, [0, 1])
        assert torch.equal(one.maps["image"], other.maps["image"])
        assert not torch.equal(one.probability, other.probability)
        assert any("same for every class" in note for note in one.notes)


@pytest.mark.parametrize("name", METHODS)
def test_several_targets_equal_calls_for_each(images, name):
    net, targets = Tiny(), [0, None, [2, 0, 1]]
    together = getattr(explain, name)().for_targets(net, images, targets)
    for maps, target in zip(together, targets, strict=True):
        alone = getattr(explain, name)()(net, images, target=target)
        assert torch.equal(maps.maps["image"], alone.maps["image"])
        assert torch.equal(maps.target, alone.target)
        assert torch.equal(maps.scores, alone.scores)


@pytest.mark.parametrize("name", METHODS)
def test_samples_do_not_mix(images, name):
    net = Tiny()
    together = getattr(explain, name)()(net, images, target=[1, 2, 0]).maps["image"]
    for row, target in enumerate([1, 2, 0]):
        alone = getattr(explain, name)()(net, images[row : row + 1], target=target).maps["image"][0]
        torch.testing.assert_close(together[row], alone, atol=1e-6, rtol=1e-4)


class Placed(nn.Module):
    """A class token that looks at the brightest patch."""

    def __init__(self, axes):
        super().__init__()
        conv = nn.Conv2d if axes == 2 else nn.Conv3d
        self.patches = conv(1, 1, 4, 4)
        nn.init.constant_(self.patches.weight, 1)
        nn.init.zeros_(self.patches.bias)

    def forward(self, image):
        values = self.patches(image).flatten(2)
        values = torch.cat([torch.zeros(len(image), 1, 1), values], dim=2)
        weights = (torch.ones_like(values).mT @ values)[:, None].softmax(dim=-1)
        looked = (weights @ values.mT[:, None])[:, 0, 0]
        return torch.cat([looked, -looked], dim=1)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(16, 24), (8, 12, 20)])
def test_the_map_is_bright_where_the_network_looks(name, size):
    image, place = torch.zeros(2, 1, *size), [size[0] - 3, 6, 13][: len(size)]
    low = [4 * (at // 4) for at in place]
    image[(0, 0, *(slice(at, at + 4) for at in low))] = 1
    image[1] = image[0].flip(1)
    maps = getattr(explain, name)()(Placed(len(size)), image, target=0).maps["image"]
    assert maps.shape == image[:, 0].shape
    assert image[0, 0].flatten()[maps[0].argmax()] == 1
    assert image[1, 0].flatten()[maps[1].argmax()] == 1
    torch.testing.assert_close(maps[1], maps[0].flip(0))


@pytest.mark.parametrize("name", METHODS)
def test_each_slice_of_a_volume_has_its_own_map(name, images, nets):
    net, volume = Tiny(), images[:2, :, None] * torch.tensor([1.0, 0.5, -1.0]).reshape(3, 1, 1)
    maps = getattr(explain, name)()(nets.Slices(net), volume, target=1).maps["image"]
    assert maps.shape == (2, 3, 24, 32)
    if name != "AttentionRelevance":
        planes = getattr(explain, name)()(net, volume[:, :, 1]).maps["image"]
        torch.testing.assert_close(maps[:, 1], planes)
    assert not torch.allclose(maps[:, 0], maps[:, 1])


def test_relevance_does_not_ask_a_class_token_that_nothing_reads(images):
    """Here the network has one, but the score is a mean over places."""

    class Past(Tiny):
        def forward(self, image):
            super().forward(image)
            return self.head(self.seen[:, 1:].mean(dim=1))

    net = Past()
    net.blocks[-1].register_forward_hook(lambda _, __, output: setattr(net, "seen", output))
    maps = explain.AttentionRelevance()(net, images, target=0)
    assert "mean over all" in maps.notes[-1]
    assert "class token" in explain.AttentionRelevance()(Tiny(), images, target=0).notes[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block": 3}, r"block=3.* image .*-3 to 2"),
        ({"block": -4}, "block=-4"),
        ({"head": 2}, r"head=2.*blocks\.\d.*0 to 1"),
        ({"query": [24, 0]}, r"query=\[24, 0\].*\(24, 32\)"),
        ({"query": [1, 2, 3]}, r"query=\[1, 2, 3\]"),
    ],
)
def test_choices_out_of_range(images, options, said):
    with pytest.raises(ConfigError, match=said):
        explain.Attention(**options)(Tiny(), images)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: explain.Attention(query="clas"), "query='clas'.*auto, class, mean"),
        (lambda: explain.AttentionRelevance(query=[1]), r"query=\[1\]"),
        (lambda: explain.AttentionRollout(head_fusion="median"), "head_fusion='median' .*'mean'"),
        (lambda: explain.AttentionRollout(discard_ratio=1), "discard_ratio=1"),
    ],
)
def test_options_out_of_range(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize("name", ["attention", "attention_rollout", "attention_relevance", "gates", "self_attention"])
def test_the_file_of_the_method_says_every_option(name):
    node = OmegaConf.load(conf_dir() / "explainer" / f"{name}.yaml")
    explainer = build(node, f"explainer.{name}")
    assert explainer.method == name
    options = {key: node[key] for key in node if key != "_target_"}
    assert options == {key: one.default for key, one in inspect.signature(type(explainer)).parameters.items()}
