"""Checkpoints of SA-CycleGAN-2.5D, made here from the published list of tensors, in every layout."""

import json
from pathlib import Path

import numpy as np
import published_cyclegan as published
import pytest
import torch

from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.reference.cyclegan import read_cyclegan
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator
from seewhy.nets.generators.published import PlainGenerator25D, SAGenerator25D

WIDTH = 16


@pytest.fixture(scope="module")
def state():
    return published.whole(width=WIDTH)


def saved(path, content):
    torch.save(content, path)
    return path


def part(state, name):
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def record(**extra):
    return {
        "epoch": 7,
        "global_step": 1234,
        "best_val_ssim": np.float64(0.98),
        "history": {"train": [{"loss_G": np.float64(1.5)}], "learning_rate": [1e-4]},
        "config": {"ngf": 64, "lr": 1e-4, "dir": Path("/data")},
        "opt_G_state_dict": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        **extra,
    }


def test_all_272_tensors_of_the_published_size(tmp_path):
    keys = {}
    for name in ("G_A2B", "G_B2A", "D_A", "D_B"):
        shapes = published.generator_keys() if name[0] == "G" else published.discriminator_keys()
        keys.update({f"{name}.{key}": shape for key, shape in shapes.items()})
    assert len(keys) == 272
    # Stored as one number each, and read at their size.
    state = {key: torch.zeros(()).expand(shape) for key, shape in keys.items()}
    checkpoint = read_cyclegan(saved(tmp_path / "a.pth", record(model_state_dict=state)))
    assert checkpoint.attention
    assert checkpoint.generator_options == {
        "slices": 3,
        "modalities": 4,
        "width": 64,
        "blocks": 9,
        "attention_blocks": [3, 4, 5],
        "output": "tanh",
        "logit_limit": 50.0,
    }
    judge = {"channels": 4, "width": 64, "scales": 2, "attention": True, "logit_limit": 50.0}
    assert checkpoint.discriminator_options == judge
    sizes = [sum(v.numel() for v in net.values()) for net in checkpoint.generators.values()]
    assert sizes == [11_854_206] * 2
    assert (checkpoint.epoch, checkpoint.legacy_layout) == (7, True)
    assert json.loads(json.dumps(checkpoint.record))["best_val_ssim"] == 0.98


@pytest.mark.parametrize("sharpness", [1.0, 60.0], ids=["logits within the clamp", "clamped logits"])
def test_an_imported_generator_gives_the_published_output(state, tmp_path, sharpness):
    """In double precision: steep attention makes much of the last digits of single precision."""
    state = {key: value * (sharpness if ".query.weight" in key else 1) for key, value in state.items()}
    checkpoint = read_cyclegan(saved(tmp_path / "a.pth", record(model_state_dict=state)))
    stack = torch.rand(2, 12, 32, 40, dtype=torch.float64)
    for direction in ("A2B", "B2A"):
        net = SAGenerator25D(**checkpoint.generator_options)
        net.load_state_dict(checkpoint.generators[direction])
        net.double()
        tensors = {key: tensor.double() for key, tensor in part(state, f"G_{direction}").items()}
        with torch.no_grad():
            expected = published.generate(tensors, stack)
            assert torch.allclose(net(stack), expected, atol=1e-8)
            unclamped = SAGenerator25D(**{**checkpoint.generator_options, "logit_limit": None})
            unclamped.double().load_state_dict(checkpoint.generators[direction])
            assert torch.allclose(unclamped(stack), expected, atol=1e-8) == (sharpness == 1.0)
        assert expected.std() > 0.1


def test_imported_discriminators_give_the_published_scores(state, tmp_path):
    checkpoint = read_cyclegan(saved(tmp_path / "a.pth", record(model_state_dict=state)))
    image = torch.rand(1, 4, 64, 64)
    for name in ("A", "B"):
        net = MultiScaleDiscriminator(**checkpoint.discriminator_options)
        net.load_state_dict(checkpoint.discriminators[name])
        with torch.no_grad():
            scores = net.eval()(image)
        for found, expected in zip(scores, published.judge(part(state, f"D_{name}"), image), strict=True):
            assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_the_baseline(tmp_path):
    state = published.whole(width=8, baseline=True)
    checkpoint = read_cyclegan(saved(tmp_path / "a.pth", record(model_state_dict=state)))
    assert not checkpoint.attention
    net = PlainGenerator25D(**checkpoint.generator_options)
    net.load_state_dict(checkpoint.generators["A2B"])
    judge = MultiScaleDiscriminator(**checkpoint.discriminator_options)
    judge.load_state_dict(checkpoint.discriminators["B"])
    stack = torch.rand(1, 12, 64, 64)
    with torch.no_grad():
        assert torch.allclose(net(stack), published.generate_baseline(part(state, "G_A2B"), stack), atol=2e-5)
        expected = published.judge(part(state, "D_B"), stack[:, 4:8], baseline=True)
        for one, other in zip(judge.eval()(stack[:, 4:8]), expected, strict=True):
            assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def prefixed(state, change):
    return {change(key): value for key, value in state.items()}


def nested(state, names):
    return {theirs: part(state, ours) for ours, theirs in names.items()}


BOTH = ("G_A2B", "G_B2A")
LAYOUTS = {
    "training": lambda s: record(model_state_dict=s),
    "federated": lambda s: {"global_model_state_dict": s, "round": 7, "best_ssim": 0.9},
    "bare": lambda s: s,
    "exported": lambda s: {"architecture": "SACycleGAN25D", "state_dict": s},
    "DataParallel": lambda s: record(model_state_dict=prefixed(s, lambda key: f"module.{key}")),
    "DataParallel per network": lambda s: record(
        model_state_dict=prefixed(s, lambda key: key.replace(".", ".module.", 1) if key[0] == "G" else key)
    ),
    "compiled": lambda s: record(model_state_dict=prefixed(s, lambda key: f"_orig_mod.{key}")),
    "compiled networks, parallel": lambda s: record(
        model_state_dict=prefixed(s, lambda key: "module." + key.replace(".", "._orig_mod.", 1))
    ),
    "today's spectral norm": lambda s: record(
        model_state_dict=prefixed(
            s,
            lambda key: (
                key.replace(".weight_orig", ".parametrizations.weight.original")
                .replace(".weight_u", ".parametrizations.weight.0._u")
                .replace(".weight_v", ".parametrizations.weight.0._v")
            ),
        )
    ),
    "inference": lambda s: nested(s, {"G_A2B": "generator_A2B_state_dict", "G_B2A": "generator_B2A_state_dict"}),
    "reader": lambda s: nested(s, {name: f"{name}_state_dict" for name in BOTH}),
    "generators": lambda s: nested(s, {"G_A2B": "generator_AB", "G_B2A": "generator_BA"}),
    "runner": lambda s: nested(s, {name: name for name in (*BOTH, "D_A", "D_B")}),
    "one direction": lambda s: nested(s, {"G_A2B": "G_A2B_state_dict"}),
    "one generator": lambda s: {"state_dict": part(s, "G_A2B")},
    "one bare generator": lambda s: part(s, "G_A2B"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_networks(state, tmp_path, layout):
    content = LAYOUTS[layout](state)
    checkpoint = read_cyclegan(saved(tmp_path / "a.pth", content))
    whole = not layout.startswith("one ")
    judged = "generator" not in layout and layout not in ("inference", "reader", "one direction")
    assert set(checkpoint.generators) == ({"A2B", "B2A"} if whole else {"A2B"})
    assert set(checkpoint.discriminators) == ({"A", "B"} if judged else set())
    for direction, net in checkpoint.generators.items():
        expected = part(state, f"G_{direction}")
        assert net.keys() == expected.keys()
        assert all(torch.equal(net[key], expected[key]) for key in net)
    for domain, net in checkpoint.discriminators.items():
        MultiScaleDiscriminator(**checkpoint.discriminator_options).load_state_dict(net)
        weight = net["discriminators.1.model.9.parametrizations.weight.original"]
        assert torch.equal(weight, state[f"D_{domain}.discriminators.1.model.9.weight_orig"])
    known = layout in ("training", "federated") or "epoch" in content
    assert checkpoint.epoch == (7 if known else None)


def test_direction_of_an_unnamed_generator(state, tmp_path):
    path = saved(tmp_path / "a.pth", part(state, "G_B2A"))
    assert set(read_cyclegan(path, direction="B2A").generators) == {"B2A"}
    with pytest.raises(ConfigError, match="direction='b2a' must be A2B or B2A"):
        read_cyclegan(path, direction="b2a")


def test_arrays_of_the_patchnce_variant(state, tmp_path):
    path = tmp_path / "checkpoint_0010.npz"
    arrays = {f"model/{key}": value.numpy() for key, value in state.items()}
    np.savez(path, **arrays, **{"nce_A2B/mlp.0.weight": np.zeros((4, 4)), "nce_B2A/count::scalar": np.array([3])})
    checkpoint = read_cyclegan(path)
    assert checkpoint.left_out == ("nce_A2B/mlp.0.weight", "nce_B2A/count::scalar")
    assert checkpoint.epoch is None
    path.with_suffix(".json").write_text(json.dumps({"epoch": 10, "lambda_nce": 1.0}))
    checkpoint = read_cyclegan(path)
    assert (checkpoint.epoch, checkpoint.record["lambda_nce"]) == (10, 1.0)
    assert torch.equal(checkpoint.generators["B2A"]["output.1.bias"], state["G_B2A.output.1.bias"])
    np.savez(path, **arrays, **{"model/G_A2B.step::scalar": np.array([3])})
    with pytest.raises(CheckpointError, match=r"1 only in the file: G_A2B\.step\n"):
        read_cyclegan(path)


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{"model/G_A2B.x": np.array([print], dtype=object)})
    with pytest.raises(CheckpointError, match="cannot be read as arrays of numbers"):
        read_cyclegan(path)
    path.write_bytes(b"PK no zip")
    with pytest.raises(CheckpointError, match="cannot be read as arrays of numbers"):
        read_cyclegan(path)
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_cyclegan(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("G_B2A.skip_fuse.1.weight"), r"1 not in the file: G_B2A\.skip_fuse\.1\.weight"),
        (
            lambda s: [s.pop(key) for key in list(s) if key.startswith("D_B.")],
            r"48 not in the file: D_B\..*weight_orig",
        ),
        (lambda s: [s.pop(key) for key in list(s) if key[0] == "D"], "96 not in the file: D_A"),
        (lambda s: s.update({"G_A2B.extra": torch.zeros(2)}), r"1 only in the file: G_A2B\.extra"),
        (lambda s: s.update({"ema.decay": torch.zeros(2)}), r"1 of its 273 tensors belong to none of .*ema\.decay"),
        (
            lambda s: s.update({"G_B2A.encoder.0.0.weight": torch.zeros(32, 16, 5, 5)}),
            r"G_B2A\.encoder\.0\.0\.weight: \[32, 16, 5, 5\] in the file, \[32, 16, 3, 3\] here",
        ),
        (lambda s: s.update({"G_A2B.output.1.weight": torch.zeros(5, 16, 7, 7)}), "makes 5 channels of 12"),
        (lambda s: s.update({"G_A2B.output.1.weight": torch.zeros(5)}), "its generator is neither"),
        (
            lambda s: s.update({"module.G_A2B.output.1.bias": torch.zeros(4)}),
            r"holds two tensors 'G_A2B\.output\.1\.bias'",
        ),
        (lambda s: s.update({"G_A2B.output.1.bias": 3.0}), r"G_A2B\.output\.1\.bias are not tensors"),
        (
            lambda s: s.update({"D_A.discriminators.0.model.0.weight_orig": torch.zeros(3)}),
            "its discriminators are not SA-CycleGAN-2.5D's",
        ),
    ],
)
def test_what_does_not_fit_is_named(state, tmp_path, change, words):
    state = dict(state)
    change(state)
    path = saved(tmp_path / "a.pth", {"model_state_dict": state})
    with pytest.raises(CheckpointError, match=words) as caught:
        read_cyclegan(path)
    assert "a.pth" in str(caught.value)


def test_other_files(tmp_path):
    class Thing:
        pass

    with pytest.raises(CheckpointError, match="no such weights file"):
        read_cyclegan(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="expected a dict of networks, found list"):
        read_cyclegan(saved(tmp_path / "a.pth", [1, 2]))
    with pytest.raises(CheckpointError, match="in the state dict, but epoch are not tensors"):
        read_cyclegan(saved(tmp_path / "b.pth", {"epoch": 3}))
    with pytest.raises(CheckpointError, match="holds no generator, only D_A"):
        read_cyclegan(saved(tmp_path / "c.pth", {"D_A": {"x": torch.zeros(1)}}))
    pointer = tmp_path / "d.pth"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 140775099\n")
    with pytest.raises(CheckpointError, match=r"d\.pth: a pointer of Git LFS.*git lfs pull"):
        read_cyclegan(pointer)
