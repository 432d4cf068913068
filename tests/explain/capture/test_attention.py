"""Attention matrices are seen as the module computes them, and nothing of the module is changed."""

import weakref

import pytest
import torch
import torchvision
from small_transformers import seeded, vit
from torch import nn
from torch.nn import functional

import seewhy.explain as explain
from seewhy.errors import ConfigError
from seewhy.explain import ExplainedModel
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.capture.attention import capture_attention

METHODS = ["Attention", "AttentionRollout", "AttentionRelevance"]


@pytest.fixture
def image():
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def seen(net, image, modules=None, **options):
    """Scores and blocks, as an explainer gets them."""
    blocks, subject = [], ExplainedModel(net, image)
    with keep_unchanged(subject.module):
        scores = capture_attention(subject, modules, blocks.append, **options)
    return scores, blocks


class Encoder(nn.Module):
    """Patches through torch's own transformer encoder, in the layouts and with the masks it knows."""

    def __init__(self, *, heads=4, batch_first=True, mask=None, causal=False):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 16, 16)
        layer = nn.TransformerEncoderLayer(16, heads, 32, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)
        self.batch_first, self.mask, self.causal = batch_first, mask, causal

    def forward(self, image):
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        tokens = tokens if self.batch_first else tokens.transpose(0, 1)
        tokens = self.encoder(tokens, mask=self.mask, is_causal=self.causal)
        return self.head(tokens.mean(dim=1 if self.batch_first else 0))


class Own(nn.Module):
    """Attention in a form of one's own."""

    def __init__(self, form):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, 16)
        self.weigh = Weigh(form)
        self.head = nn.Linear(8, 3)

    def forward(self, image):
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        return self.head(self.weigh(tokens).mean(dim=1))


class Weigh(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form
        self.num_heads = 2
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        q = x.unflatten(2, (2, 4)).transpose(1, 2)
        bias = torch.linspace(-1, 1, 36).reshape(6, 6)
        if self.form == "masked":
            return _merged(functional.scaled_dot_product_attention(q, q, q, attn_mask=bias > -0.9, scale=0.7))
        if self.form == "windows":  # an axis more than heads have
            q = q.unflatten(2, (2, 3)).transpose(1, 2)
            return functional.scaled_dot_product_attention(q, q, q).transpose(2, 3).flatten(3).flatten(1, 2)
        if self.form == "biased":
            return _merged(functional.scaled_dot_product_attention(q, q, q, attn_mask=bias))
        if self.form == "causal":
            return _merged(functional.scaled_dot_product_attention(query=q, key=q, value=q, is_causal=True))
        if self.form == "grouped":
            return _merged(functional.scaled_dot_product_attention(q, q[:, :1], q[:, :1], enable_gqa=True))
        logits = q @ q.mT * 0.5
        if self.form == "module":
            weights = self.softmax(logits)
        elif self.form == "function":
            weights = functional.softmax(logits, dim=3)
        elif self.form == "method":
            weights = logits.softmax(-1)
        elif self.form == "in place":
            weights = torch.softmax(logits, -1)
            self.kept = weights.clone()
            return _merged(weights.mul_(2) @ q)
        elif self.form == "joined":
            weights = logits.flatten(0, 1).softmax(dim=2).unflatten(0, (-1, 2))
        return _merged(weights @ q)


def _merged(x):
    return x.transpose(1, 2).flatten(2)


FORMS = ["masked", "biased", "causal", "grouped", "module", "function", "method", "in place", "joined"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("graph", [False, True])
def test_every_form_is_seen_and_gives_what_it_gave(form, graph, image):
    net = seeded(Own(form))
    with torch.no_grad():
        expected = net(image)
    scores, (block,) = seen(net, image, graph=graph)
    torch.testing.assert_close(scores.detach(), expected, atol=1e-6, rtol=0)
    assert block.weights.shape == (2, 2, 6, 6)
    assert block.name == "weigh"
    assert not block.headless
    torch.testing.assert_close(block.weights.sum(dim=-1), torch.ones(2, 2, 6))
    if form == "causal":
        assert not block.weights.triu(1).any()
    if form == "in place":
        assert torch.equal(block.weights, net.weigh.kept)
    if graph:
        (gradient,) = torch.autograd.grad(scores[:, 0].sum(), block.weights)
        assert gradient.shape == block.weights.shape
        assert gradient.flatten(1).any(dim=1).all()


def test_what_is_no_matrix_of_tokens_runs_as_it_is(image):
    net = seeded(Own("windows"))
    with torch.no_grad():
        expected = net(image)
    with pytest.raises(ConfigError, match=r"no attention .*Own"):
        seen(net, image)
    assert torch.equal(net(image).detach(), expected)


def test_the_matrix_is_that_of_the_network_itself(image):
    """What timm computes with its fused kernel off, read from its own softmax."""
    fused, plain = vit(), vit()
    own = []
    for block in plain.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, inputs, __: own.append(inputs[0].detach()))
    plain(image)
    own_plain = list(own)
    for net in (fused, plain):
        scores, blocks = seen(net, image)
        assert [block.name for block in blocks] == [f"blocks.{number}.attn" for number in range(3)]
        for block, expected in zip(blocks, own_plain, strict=True):
            torch.testing.assert_close(block.weights, expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(scores, plain(image).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("batch_first", [True, False])
def test_the_matrix_of_torchs_own_attention(heads, batch_first, image):
    net = seeded(Encoder(heads=heads, batch_first=batch_first))
    with torch.no_grad():
        expected = net(image)  # by the fast path, where there is one
    scores, blocks = seen(net, image)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)
    assert [block.name for block in blocks] == ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"]
    tokens = net.patches(image).flatten(2).transpose(1, 2)
    tokens = tokens if batch_first else tokens.transpose(0, 1)
    attention = net.encoder.layers[0].self_attn
    _, weights = attention(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(blocks[0].weights, weights.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("need_weights", [True, False])
def test_weights_that_the_module_asks_for_itself(need_weights):
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, image):
            tokens = image.flatten(2)
            return self.attention(tokens, tokens, tokens, need_weights=need_weights)[0].mean(dim=2)

    net, image = seeded(Asking()), torch.randn(3, 5, 2, 4)
    _, (block,) = seen(net, image)
    assert block.weights.shape == (3, 2, 5, 5)
    expected = net.attention(image.flatten(2), image.flatten(2), image.flatten(2), average_attn_weights=False)[1]
    torch.testing.assert_close(block.weights, expected.detach(), atol=1e-6, rtol=1e-5)


def test_a_mask_of_torchs_encoder(image):
    mask = torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf)
    net = seeded(Encoder(mask=mask, causal=True))
    _, blocks = seen(net, image)
    assert all(not block.weights.triu(1).any() for block in blocks)


def test_only_what_is_named_is_seen(image):
    net = vit()
    assert [block.name for block in seen(net, image, "blocks.1")[1]] == ["blocks.1.attn"]
    names = [block.name for block in seen(net, image, ["blocks.0.attn", "blocks.2"])[1]]
    assert names == ["blocks.0.attn", "blocks.2.attn"]


def test_a_module_that_catches_an_exception_inside_itself(image):
    class Catching(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.fragile = vit(), Fragile()

        def forward(self, image):
            try:
                self.fragile(image)
            except ValueError:
                return self.net(image)

    class Fragile(nn.Module):
        def forward(self, image):
            raise ValueError

    assert [block.name for block in seen(Catching(), image)[1]] == [f"net.blocks.{number}.attn" for number in range(3)]


def test_matrices_are_freed_where_they_are_not_kept(image):
    """Each is gone when the next is shown, so that a deep network's do not add up."""
    net, alive = vit(depth=6), []

    def see(block):
        alive.append(weakref.ref(block.weights))
        assert sum(one() is not None for one in alive) == 1

    subject = ExplainedModel(net, image)
    with keep_unchanged(net), torch.no_grad():
        capture_attention(subject, None, see)
    assert len(alive) == 6


@pytest.mark.parametrize("name", METHODS)
def test_a_module_without_attention(name, nets, images):
    with pytest.raises(ConfigError, match=r"no attention .*Net.*grad_cam, layer_cam"):
        getattr(explain, name)()(nets.Net(), images)


def test_modules_that_show_no_attention_or_do_not_exist(image):
    net = vit()
    with pytest.raises(ConfigError, match=r"'blocks\.1\.mlp'.*valid: 'blocks\.1\.attn'"):
        explain.Attention(modules=["blocks.0", "blocks.1.mlp"])(net, image)
    with pytest.raises(ConfigError, match=r"no module 'block\.1'.*nearest: 'blocks\.1'.*no module 'blocks\.7'"):
        explain.Attention(modules=["block.1", "blocks.7"])(net, image)
    with pytest.raises(ConfigError, match="modules"):
        explain.Attention(modules=[])(net, image)
    with pytest.raises(ConfigError, match=r"input 'picture'.*valid: 'image'"):
        explain.Attention(modules={"picture": "blocks"})(net, image)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


class Twins(nn.Module):
    """Two images through a transformer each, or both through one."""

    def __init__(self, *, shared):
        super().__init__()
        self.first_net = vit()
        self.second_net = self.first_net if shared else vit()
        for number, parameter in enumerate(self.second_net.parameters()):
            if not shared and parameter.ndim > 1:
                parameter.data.mul_(1 + number % 3)

    def forward(self, first, second):
        return self.first_net(first) + 2 * self.second_net(second)


class Doubled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return 2 * self.net(image)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shared", [True, False])
def test_several_inputs_have_maps_of_their_own(name, shared, image):
    net = Twins(shared=shared).eval()
    images = {"second": image.flip(2), "first": image}
    modules = None if shared else {"first": "first_net", "second": "second_net"}
    maps = getattr(explain, name)(modules=modules)(net, images, target=1)
    alone = {"first": net.first_net, "second": Doubled(net.second_net)}
    for key, one in alone.items():
        expected = getattr(explain, name)()(one, images[key], target=1).maps["image"]
        torch.testing.assert_close(maps.maps[key], expected)
    if not shared:
        with pytest.raises(ConfigError, match=r"ran 1 time .* 2 inputs"):
            getattr(explain, name)()(net, images, target=1)


def test_torchvisions_transformer(image):
    net = seeded(torchvision.models.VisionTransformer(32, 16, 2, 4, 32, 64, num_classes=3))
    square = image[..., :32].contiguous()
    with torch.no_grad():
        expected = net(square)
    for name in METHODS:
        found = getattr(explain, name)()(net, square, target=2)
        torch.testing.assert_close(found.scores, expected, atol=1e-5, rtol=1e-5)
        assert found.maps["image"].shape == (2, 32, 32)
        assert found.maps["image"].std() > 0
