"""A transformer is given back as it was, and is explained wherever it stands."""

import pytest
import timm
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.nn import functional
from torch.utils.data import DataLoader

import seewhy.explain as explain
from seewhy.errors import ConfigError

METHODS = ["Attention", "AttentionRollout", "AttentionRelevance"]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@pytest.fixture
def image():
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def seeded(net, scale=2.0):
    """A network whose scores and attention vary, as those of a trained one do."""
    torch.manual_seed(5)
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=scale * parameter[0].numel() ** -0.5)
        elif "bias" in name:
            parameter.data.normal_(std=0.1)
    return net.eval()


def vit(**options):
    name = options.pop("name", "vit_tiny_patch16_224")
    options = {"img_size": (32, 48), "depth": 3, "embed_dim": 24, "num_heads": 3, "num_classes": 4, **options}
    return seeded(timm.create_model(name, **options))


@pytest.fixture
def training():
    """A transformer in the middle of a training."""
    net = vit(pos_drop_rate=0.2, attn_drop_rate=0.2)
    net.train()
    net.blocks[0].eval()
    net.patch_embed.requires_grad_(False)
    net(torch.ones(1, 3, 32, 48)).sum().backward()
    return net


def state(net):
    return {
        "hooks": sum(len(getattr(part, kind)) for part in net.modules() for kind in HOOKS),
        "training": [part.training for part in net.modules()],
        "requires_grad": [parameter.requires_grad for parameter in net.parameters()],
        "grad": [None if p.grad is None else (id(p.grad), p.grad.sum().item()) for p in net.parameters()],
        "versions": [value._version for value in net.state_dict().values()],
        "fused": [getattr(part, "fused_attn", None) for part in net.modules()],
        "modes": torch._C._len_torch_function_stack(),
        "sdpa": functional.scaled_dot_product_attention,
    }


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_behind(name, training, image):
    before, given = state(training), image.clone()
    getattr(explain, name)().for_targets(training, given, [0, 1])
    assert state(training) == before
    assert torch.equal(given, image)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_behind_after_an_exception(name, training, image):
    class BreakingError(Exception):
        pass

    def fails(*_):
        raise BreakingError

    handle = training.blocks[1].mlp.register_forward_hook(fails)
    before = state(training)
    with pytest.raises(BreakingError):
        getattr(explain, name)()(training, image)
    assert state(training) == before
    handle.remove()
    with pytest.raises(ConfigError, match="target"):
        getattr(explain, name)()(training, image, target=9)
    assert state(training)["hooks"] == 0
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", METHODS)
def test_frozen_training_or_without_gradients_around(name, image):
    net = vit()
    expected = getattr(explain, name)()(net, image, target=1).maps["image"]
    assert expected.abs().sum() > 0
    for around in (torch.no_grad, torch.inference_mode):
        with around():
            assert torch.equal(getattr(explain, name)()(net, image.clone(), target=1).maps["image"], expected)
    net.requires_grad_(False).train()
    assert torch.equal(getattr(explain, name)()(net, image, target=1).maps["image"], expected)


@pytest.mark.parametrize("name", METHODS)
def test_autocast_around_is_left(name, image):
    net = vit()
    expected = getattr(explain, name)()(net, image, target=1).maps["image"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(getattr(explain, name)()(net, image, target=1).maps["image"], expected)


@pytest.mark.parametrize("name", METHODS)
def test_explained_after_torch_compile(name, image):
    net = vit()
    expected = getattr(explain, name)()(net, image, target=1)
    wrapper = torch.compile(net, backend="eager")
    with torch.no_grad():
        wrapper(image)
    for options in ({}, {"modules": "_orig_mod.blocks"}):
        found = getattr(explain, name)(**options)(wrapper, image, target=1)
        assert torch.equal(found.maps["image"], expected.maps["image"])
        assert found.layers == expected.layers
    net.blocks[1] = torch.compile(net.blocks[1], backend="eager")
    with torch.no_grad():
        net(image)
    found = getattr(explain, name)()(net, image, target=1)
    assert torch.equal(found.maps["image"], expected.maps["image"])
    assert found.layers == expected.layers


class Explained(LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image)

    def predict_step(self, image, _):
        assert torch.is_inference_mode_enabled()
        return explain.AttentionRelevance()(self, image, target=1).maps["image"]


def test_explained_inside_lightnings_predict(image, tmp_path):
    module = Explained(vit())
    outside = explain.AttentionRelevance()(module, image, target=1).maps["image"]
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, **quiet)
    (found,) = trainer.predict(module, DataLoader(list(image), batch_size=2))
    assert torch.equal(found, outside)
