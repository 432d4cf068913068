"""The weakly-supervised model says of itself what explainers need, and its maps relate to its own."""

import pytest
import torch
from torch.nn.functional import interpolate

from seewhy.explain import GradCAM, HiResCAM, LayerCAM
from seewhy.models.weakly_supervised.segmentation import WeaklySupervisedSegmentation

BASE = {"optimizer": {"name": "adamw", "lr": 1e-3}, "scheduler": {"name": "constant"}, "num_classes": 3}
ENCODERS = {
    "cnn": {"name": "cnn", "widths": [8, 8, 8, 8]},
    "mit": {"name": "mit_nano"},
    "vit": {"name": "vit_tiny_patch16_224", "img_size": 48},
    "resnet": {"name": "resnet18"},
}


@pytest.fixture
def image():
    return torch.randn(4, 1, 48, 56, generator=torch.Generator().manual_seed(0))


def build(encoder, pooling="gap"):
    torch.manual_seed(0)
    return WeaklySupervisedSegmentation(encoder=ENCODERS[encoder], pooling={"name": pooling}, **BASE)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_grad_cam_of_mean_pooling_is_the_models_own_map(encoder, image):
    """Behind a mean and a linear layer both methods are the local logits less their bias, ÷ the number of places."""
    model = build(encoder)
    with torch.no_grad():
        local = model.eval().class_activation(image) - model.classifier.bias[:, None, None]
    expected = interpolate(local / local[0, 0].numel(), size=image.shape[2:], mode="bilinear", align_corners=False)
    for method in (GradCAM(), HiResCAM()):
        for target in (0, 1):
            maps = method(model.train(), image, target=target)
            torch.testing.assert_close(maps.maps["image"], expected[:, target], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(maps.probability, maps.scores[:, target].sigmoid())
    assert model.training


@pytest.mark.parametrize("pooling", ["lse", "topk"])
def test_hires_cam_of_pooled_logits_weighs_each_place_by_its_part_in_the_score(pooling, image):
    """The gradient of a pooling of logits is a weight per place, so the map is that weight times the local logit."""
    model = build("mit", pooling).eval()
    with torch.no_grad():
        local = model.class_activation(image)
    local.requires_grad_()
    (weights,) = torch.autograd.grad(model.classifier.pooling(local)[:, 1].sum(), local)
    expected = weights[:, 1] * (local.detach()[:, 1] - model.classifier.bias[1])
    expected = interpolate(expected[:, None], size=image.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(
        HiResCAM()(model, image, target=1).maps["image"], expected.detach(), rtol=1e-4, atol=1e-6
    )


def test_attention_modules_are_named():
    assert build("mit").explainable().attention == ("encoder.block4.0.attn", "encoder.block4.1.attn")
    vit = build("vit")
    names = vit.explainable().attention
    assert names == tuple(f"encoder.net.blocks.{number}.attn" for number in range(12))
    assert all(hasattr(vit.get_submodule(name), "q_norm") for name in names)
    assert build("cnn").explainable().attention == ()


def test_a_model_in_training_learns_on_as_if_it_had_not_been_explained(image):
    """Explaining draws nothing and moves no statistics."""
    one, other = build("cnn"), build("cnn")
    for model, explained in ((one, False), (other, True)):
        torch.manual_seed(3)
        model.train()
        if explained:
            LayerCAM()(model, image, target=0)
        model(image).sum().backward()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad)
    for mine, theirs in zip(one.buffers(), other.buffers(), strict=True):
        assert torch.equal(mine, theirs)
