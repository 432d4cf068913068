"""What a modality's translation rests on, and what the attention of a generator really does."""

import numpy as np
import pytest
import torch
from torch import nn

from seewhy.batch import MODALITIES
from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.attention.attention import SelfAttention
from seewhy.explain.attention.gates import Gates
from seewhy.explain.cam.grad_cam import GradCAM
from seewhy.explain.gradient.saliency import Saliency
from seewhy.models.translation.cyclegan_25d import CycleGAN25D
from seewhy.models.translation.explanation import LEAST, ModalityScores, has_attention, record_attention
from seewhy.nets.generators.blocks import CBAM, FLOOR
from seewhy.nets.generators.published import PlainGenerator25D, SAGenerator25D

SIDE = 16


def stack(seed=0, count=2):
    """Stacks with background."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(count, 12, SIDE, SIDE, generator=generator) * 1.8 - 0.9
    values[:, :, :, : SIDE // 4] = -1
    return values


def network(**options):
    torch.manual_seed(0)
    net = SAGenerator25D(width=8, blocks=3, attention_blocks=(1,), **options)
    for name, value in net.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(value, 0.7)
    return net.eval()


class Centre(nn.Module):
    """The identity."""

    def forward(self, image):
        return image[:, 4:8]


def test_a_score_is_the_logit_of_the_mean_over_the_tissue():
    image = stack()
    body = image[:, 4] > -1
    scores = ModalityScores(Centre())({"image": image, "body": body})
    means = torch.stack([((image[:, 4 + m] + 1) / 2)[:, :, SIDE // 4 :].mean(dim=(1, 2)) for m in range(4)], dim=1)
    assert torch.allclose(scores.sigmoid(), means, atol=1e-6)
    assert torch.equal(scores, ModalityScores(Centre())(image))  # tissue told from the background's value


def test_its_gradient_is_that_of_the_mean():
    image = stack(count=1).requires_grad_()
    score = ModalityScores(Centre())(image)[0, 2]
    (slope,) = torch.autograd.grad(score, image)
    share = score.sigmoid()
    inside = SIDE * SIDE * 3 // 4
    expected = torch.zeros_like(image)
    expected[:, 6, :, SIDE // 4 :] = 0.5 / inside / (share * (1 - share))
    assert torch.allclose(slope, expected, rtol=1e-4)


def test_change_of_an_identity_is_none():
    scores = ModalityScores(Centre(), measure="change")(stack())
    assert torch.allclose(scores.sigmoid(), torch.full((2, 4), LEAST))
    with pytest.raises(ConfigError, match="measure='chang' is unknown; nearest: 'change'"):
        ModalityScores(Centre(), measure="chang")


@pytest.mark.parametrize("explainer", [Gates(), SelfAttention(), GradCAM(), Saliency()], ids=lambda one: one.method)
def test_explainers_take_a_generator(explainer):
    image = stack()
    module = ModalityScores(network())
    maps = explainer(module, {"image": image, "body": image[:, 4] > -1}, target=1)
    assert maps.maps["image"].shape == (2, SIDE, SIDE)
    assert maps.maps["image"].isfinite().all()
    assert torch.allclose(maps.probability, module(image)[:, 1].sigmoid(), atol=1e-5)
    assert module.explainable().classes == MODALITIES


def test_cams_of_the_baseline_are_of_its_last_block():
    net = PlainGenerator25D(width=4, blocks=2).eval()
    maps = GradCAM()(ModalityScores(net), stack(), target=0)
    assert maps.layers == {"image": "generator.residual_blocks.1"}
    assert not has_attention(net)


def test_a_gate_times_its_input_is_what_comes_out():
    net, image = network(), stack(count=1)
    seen = {}
    hooks = []
    for name, part in net.named_modules():
        if isinstance(part, CBAM):
            hooks.append(
                part.register_forward_hook(lambda _, inputs, out, name=name: seen.update({name: (inputs[0], out)}))
            )
    with torch.no_grad():
        net(image)
    for hook in hooks:
        hook.remove()
    found = record_attention(net, image[0])
    assert len(seen) == 7
    for name, (before, after) in seen.items():
        channel = torch.from_numpy(found[f"{name}.channel_attn_weights"])
        spatial = torch.from_numpy(found[f"{name}.spatial_attn_weights"])
        assert channel.shape == (before.shape[1],)
        assert spatial.shape == (1, *before.shape[2:])
        gated = before[0] * channel.clamp(min=FLOOR)[:, None, None] * spatial.clamp(min=FLOOR)
        assert torch.allclose(gated, after[0], atol=1e-5)
        assert np.allclose(found[f"{name}_output"], after[0].mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("limit", [None, 0.01], ids=["free", "clamped"])
def test_pooled_attention_is_the_mean_of_rows_that_sum_to_one(limit):
    net, image = network(logit_limit=limit), stack(count=1)
    inputs = {}
    parts = {"bottleneck.1.attention": net.bottleneck[1].attention, "global_attention": net.global_attention}
    hooks = [
        part.register_forward_hook(lambda _, given, __, name=name: inputs.update({name: given[0]}))
        for name, part in parts.items()
    ]
    with torch.no_grad():
        net(image)
    for hook in hooks:
        hook.remove()
    found = record_attention(net, image[0], full=True)
    for name, part in parts.items():
        with torch.no_grad():
            query, key = (one(inputs[name]).flatten(2)[0] for one in (part.query, part.key))
            logits = query.T @ key / query.shape[0] ** 0.5
            rows = (logits if limit is None else logits.clamp(-limit, limit)).softmax(dim=1)
        pooled = found[f"{name}_weights"]
        assert pooled.shape == (SIDE // 4, SIDE // 4)
        assert pooled.sum() == pytest.approx(1, abs=1e-5)
        assert np.allclose(pooled.ravel(), rows.mean(dim=0), atol=1e-6)
        [matrix] = found[f"{name}_matrix"]
        assert np.allclose(matrix, rows, atol=1e-3)
        assert np.allclose(matrix.astype(np.float32).sum(axis=1), 1, atol=5e-3)


def test_attention_comes_in_the_order_in_which_it_runs_and_leaves_the_network_alone():
    net, image = network(), stack(count=1)
    with torch.no_grad():
        before = net(image)
    names = list(record_attention(net, image[0]))
    with torch.no_grad():
        assert torch.equal(net(image), before)
    assert not any(part._forward_hooks for part in net.modules())
    weights = [name for name in names if name.endswith("_weights")]
    assert weights[0] == "encoder_initial.slice_attention.channel_attn_weights"
    assert weights[-1] == "decoder.1.3.spatial_attn_weights"
    assert weights.index("bottleneck.1.attention_weights") < weights.index("global_attention_weights")


def model(**options):
    generator = {"name": "sa", "width": 4, "blocks": 1, "attention_blocks": [0]}
    optimizer, scheduler = {"name": "adam", "lr": 1e-4}, {"name": "constant"}
    return CycleGAN25D(generator=generator, optimizer=optimizer, scheduler=scheduler, **options)


def test_the_model_gives_the_generator_of_the_subjects_direction():
    gan = model()
    batch = {"image": stack(), "body": stack()[:, 4] > -1, "domain": ["b", "b"], "mask": torch.ones(2, SIDE, SIDE)}
    module, taken = gan.prepare_explanation(batch)
    assert module.generator is gan.generators["b2a"]
    assert set(taken["image"]) == {"image", "body"}
    assert "mask" not in taken
    one_sided = model(directions="a2b", losses={"weights": {"adversarial": 1.0}})
    with pytest.raises(ExplanationError, match="nothing translates domain b"):
        one_sided.prepare_explanation(batch)
