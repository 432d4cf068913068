"""Non-local blocks of convolutional networks as maps."""

import pytest
import timm
import torch
from timm.layers.non_local_attn import NonLocalAttn
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

import seewhy.explain as explain
from seewhy.errors import ConfigError


class NonLocal(nn.Module):
    """A convolution, timm's non-local block, a head; `pooled` keys as large GANs have them."""

    def __init__(self, *, pooled=False):
        super().__init__()
        torch.manual_seed(8)
        self.stem = nn.Conv2d(1, 16, 4, 4)
        self.block = PooledKeys() if pooled else NonLocalAttn(16, use_scale=False)
        self.head = nn.Linear(16, 2)

    def forward(self, image):
        return self.head(self.block(self.stem(image)).mean((2, 3)))


class PooledKeys(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.g, self.h = (nn.Conv2d(16, 16, 1) for _ in range(3))

    def forward(self, x):
        keys, values = (max_pool2d(part(x), 2).flatten(2) for part in (self.f, self.h))
        self.weights = torch.softmax(self.g(x).flatten(2).mT @ keys, -1)
        return x + (values @ self.weights.mT).unflatten(2, x.shape[2:])


@pytest.fixture
def image():
    return torch.randn(2, 1, 24, 32, generator=torch.Generator().manual_seed(2))


def own_matrix(net, image):
    x = net.stem(image)
    t, p = net.block.t(x).flatten(2), net.block.p(x).flatten(2)
    return (t.mT @ p).softmax(dim=2).detach()


def enlarged(tokens, image, grid):
    return interpolate(tokens.reshape(-1, 1, *grid), image.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def test_mean_over_queries_and_the_row_of_one_place(image):
    net = NonLocal().eval()
    matrix = own_matrix(net, image)
    found = explain.SelfAttention()(net, image)
    torch.testing.assert_close(found.maps["image"], enlarged(matrix.mean(1), image, (6, 8)))
    assert found.layers == {"image": "block"}
    row = explain.SelfAttention(query=[9, 30])(net, image)
    torch.testing.assert_close(row.maps["image"], enlarged(matrix[:, 2 * 8 + 7], image, (6, 8)))
    assert any("[2, 7]" in note and "[6, 8]" in note for note in row.notes)
    assert torch.equal(explain.Attention()(net, image).maps["image"], found.maps["image"])


def test_keys_of_a_coarser_grid(image):
    net = NonLocal(pooled=True).eval()
    found = explain.SelfAttention()(net, image).maps["image"]
    torch.testing.assert_close(found, enlarged(net.block.weights.mean(1), image, (3, 4)))


def test_a_place_that_is_looked_at_from_everywhere(image):
    """Keys are larger at one place, so that all queries look there."""
    net = NonLocal().eval()
    nn.init.constant_(net.block.t.bias, 1)
    for part in (net.stem, net.block.t, net.block.p):
        nn.init.constant_(part.weight, 0.05)
    image = torch.zeros_like(image)
    image[:, :, 12:16, 20:24] = 8
    maps = explain.SelfAttention()(net, image).maps["image"]
    assert image[0, 0].flatten()[maps[0].argmax()] == 8
    assert maps[0].max() > 5 * maps[0].median()


def test_blocks_with_heads_are_passed_over_and_refused_alone(image):
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, in_chans=1, num_classes=2).eval()
    with pytest.raises(ConfigError, match=r"heads \(blocks\.0\.attn\).*attention"):
        explain.SelfAttention()(net, torch.randn(2, 1, 32, 32))
    with pytest.raises(ConfigError, match="query=class"):
        explain.SelfAttention(query="class")
    with pytest.raises(ConfigError, match=r"block=1.*image"):
        explain.SelfAttention(block=1)(NonLocal(), image)
