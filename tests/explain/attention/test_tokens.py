"""Where tokens lie in the image: leading tokens, grids of planes and volumes, reduced keys, windows."""

import pytest
import timm
import torch
from monai.networks.nets import ViT
from torch import nn
from torch.nn.functional import interpolate

import seewhy.explain as explain
from seewhy.errors import ConfigError, ExplanationError
from seewhy.nets.encoders.mit import MiT
from seewhy.nets.encoders.timm_encoder import TimmEncoder

METHODS = ["Attention", "AttentionRollout", "AttentionRelevance"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("kind", "patch", "grid"), [("conv", (4, 8, 8), None), ("perceptron", (8, 8, 8), None),
                                                     ("perceptron", (4, 8, 8), [4, 2, 4])])  # fmt: skip
@pytest.mark.parametrize("classification", [True, False])
def test_volumes_of_monais_transformer(name, kind, patch, grid, classification):
    pytest.importorskip("einops")  # which MONAI's transformer needs and does not require
    torch.manual_seed(3)
    net = ViT(1, (16, 16, 32), patch, 24, 48, 2, 3, proj_type=kind, classification=classification, num_classes=3)
    if not classification:
        net = Pooled(net)
    volume = torch.randn(2, 1, 16, 16, 32)
    maps = getattr(explain, name)(grid=grid)(net, volume, target=1)
    assert maps.maps["image"].shape == (2, 16, 16, 32)
    assert maps.maps["image"][0].std(dim=0).max() > 0
    row = "of the class token" if classification else "(mean over all positions)"
    assert any(note.endswith(row) for note in maps.notes)
    assert not any("all slices" in note for note in maps.notes)


class Pooled(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.head = net, nn.Linear(24, 3)

    def forward(self, volume):
        return self.head(self.net(volume)[0].mean(dim=1))


def test_a_grid_that_cannot_be_known_is_asked_for():
    pytest.importorskip("einops")
    net = ViT(1, (16, 16, 32), (4, 8, 8), 24, 48, 1, 3, proj_type="perceptron", classification=True, num_classes=3)
    volume = torch.randn(1, 1, 16, 16, 32)
    with pytest.raises(ConfigError, match=r"blocks\.0\.attn: 33 tokens .*grid="):
        explain.Attention()(net, volume)
    with pytest.raises(ConfigError, match=r"33 tokens .*\[7, 7\]"):
        explain.Attention(grid=[7, 7])(net, volume)


def enlarged(tokens, images, grid):
    return interpolate(tokens.reshape(-1, 1, *grid), images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def timm_net(name, **options):
    torch.manual_seed(4)
    small = {"img_size": 64, "depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 3}
    net = timm.create_model(name, **{**small, **options})
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=2 * parameter[0].numel() ** -0.5)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "options", "prefix", "row"),
    [
        ("vit_tiny_patch16_224", {}, 1, "class"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, 1, "mean"),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}, 0, "mean"),
        ("vit_tiny_patch16_224", {"reg_tokens": 4}, 5, "class"),
        ("vit_tiny_patch16_224", {"reg_tokens": 4, "class_token": False, "global_pool": "avg"}, 4, "mean"),
        ("deit_tiny_distilled_patch16_224", {}, 2, "class"),
    ],
)
def test_leading_tokens_of_timms_transformers(name, options, prefix, row):
    """Also on an image of 7 by 5 patches, with a size that the network is built for."""
    net = timm_net(name, img_size=(112, 80), **options)
    image = torch.randn(2, 3, 112, 80)
    kept = []
    for block in net.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, inputs, __: kept.append(inputs[0].detach()))
    net(image)
    matrix = kept[1].mean(1)
    expected = matrix[:, 0, prefix:] if row == "class" else matrix[:, prefix:, prefix:].mean(1)
    found = explain.Attention()(net, image).maps["image"]
    torch.testing.assert_close(found, enlarged(expected, image, (7, 5)))
    noted = {"class": "of the class token", "mean": "(mean over all positions)"}[row]
    for method in METHODS:
        maps = getattr(explain, method)()(net, image, target=1)
        assert maps.notes[-1].endswith(noted)


def test_tokens_of_a_network_of_which_only_parts_are_called():
    """Our encoders lay the tokens out as maps: whatever the class token gathers, nothing reads it."""

    class Laid(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.encoder, self.head = TimmEncoder("vit_tiny_patch16_224", depth=2), nn.Linear(192, 3)

        def forward(self, image):
            return self.head(self.encoder(image).maps[-1].mean((2, 3)))

    net, image = Laid(), torch.randn(1, 1, 72, 90)
    for name in METHODS:
        maps = getattr(explain, name)()(net, image, target=1)
        assert maps.notes[-1].endswith("(mean over all positions)")
        assert maps.maps["image"].shape == (1, 72, 90)
    assert "class token" in explain.Attention(query="class")(net, image).notes[-1]


def test_gradient_checkpointing_is_refused_where_gradients_are_needed():
    net, image = timm_net("vit_tiny_patch16_224"), torch.randn(1, 3, 64, 64)
    expected = explain.AttentionRollout()(net, image).maps["image"]
    net.set_grad_checkpointing(True)
    assert torch.equal(explain.AttentionRollout()(net, image).maps["image"], expected)
    with pytest.raises(ConfigError, match="gradient checkpointing"):
        explain.AttentionRelevance()(net, image)


class Pyramid(nn.Module):
    """Our own encoder with reduced keys."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = MiT("mit_nano"), nn.Linear(128, 3)

    def forward(self, image):
        return self.head(self.encoder(image).maps[-1].mean((2, 3)))


def test_reduced_keys_are_shown_raw_and_refused_by_what_multiplies_blocks():
    net, image = Pyramid().eval(), torch.randn(2, 1, 64, 96)
    for block, grid in ((0, (2, 3)), (-1, (4, 6))):
        maps = explain.Attention(block=block)(net, image)
        assert maps.maps["image"].shape == (2, 64, 96)
        assert maps.maps["image"].std() > 0
        size = grid[0] * grid[1]
        torch.testing.assert_close(maps.maps["image"].mean(), torch.tensor(1 / size), atol=0.3 / size, rtol=0)
    for name in ("AttentionRollout", "AttentionRelevance"):
        with pytest.raises(ExplanationError, match=r"encoder\.block1\.0\.attn.* 384 .* 6 .*attention"):
            getattr(explain, name)()(net, image)
        maps = getattr(explain, name)(modules="encoder.block4")(net, image, target=1)
        assert maps.maps["image"].std() > 0
        with pytest.raises(ExplanationError, match=r"block4\.0\.attn.* 24 .* 96"):
            getattr(explain, name)(modules=["encoder.block3", "encoder.block4"])(Wider(), image)


class Wider(Pyramid):
    """Unreduced attention of a finer stage before that of the last."""

    def __init__(self):
        super().__init__()
        self.encoder = MiT("mit_nano", stage_strides=(4, 2, 1, 2))
        self.encoder.get_submodule("block3.0.attn").reduction = 1


@pytest.mark.parametrize("name", METHODS)
def test_windows_are_refused(name):
    net = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, img_size=112).eval()
    options = {"block": 0} if name == "Attention" else {}
    with pytest.raises(ExplanationError, match=r"layers\.0\.blocks\.0\.attn.* 32 matrices for 2 samples.*windows"):
        getattr(explain, name)(**options)(net, torch.randn(2, 3, 112, 112))
