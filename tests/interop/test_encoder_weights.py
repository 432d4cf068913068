"""Weights in every layout people have, and files that are not weights."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from seewhy.errors import CheckpointError
from seewhy.interop.weights import infer_mit_variant, load_encoder_weights, rename_hugging_face
from seewhy.nets.encoders import build_encoder


def hugging_face_layout(state):
    """Our encoder's tensors as `transformers` would save them: other names, stages from 0, keys and values apart."""
    out = {}
    for name, tensor in state.items():
        parts = name.split(".")
        kind, stage = parts[0].rstrip("1234"), int(parts[0][-1]) - 1
        if kind == "patch_embed":
            out[f"patch_embeddings.{stage}.{'layer_norm' if parts[1] == 'norm' else 'proj'}.{parts[2]}"] = tensor
        elif kind == "norm":
            out[f"layer_norm.{stage}.{parts[1]}"] = tensor
        else:
            block, rest, end = f"block.{stage}.{parts[1]}", parts[2:-1], parts[-1]
            key = ".".join(rest)
            names = {
                "norm1": "layer_norm_1", "norm2": "layer_norm_2", "attn.q": "attention.self.query",
                "attn.sr": "attention.self.sr", "attn.norm": "attention.self.layer_norm",
                "attn.proj": "attention.output.dense", "mlp.fc1": "mlp.dense1", "mlp.fc2": "mlp.dense2",
                "mlp.dwconv.dwconv": "mlp.dwconv.dwconv",
            }  # fmt: skip
            if key == "attn.kv":
                half = tensor.shape[0] // 2
                out[f"{block}.attention.self.key.{end}"] = tensor[:half].clone()
                out[f"{block}.attention.self.value.{end}"] = tensor[half:].clone()
            else:
                out[f"{block}.{names[key]}.{end}"] = tensor
    return {f"segformer.encoder.{name}": tensor for name, tensor in out.items()} | {
        "classifier.weight": torch.zeros(10, 128),
        "classifier.bias": torch.zeros(10),
    }


def same_output(a, b, channels=1):
    image = torch.randn(1, channels, 40, 56)
    with torch.no_grad():
        for x, y in zip(a.eval()(image).maps, b.eval()(image).maps, strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_hugging_face_layout_round_trip(tmp_path, suffix):
    source, other = build_encoder("mit_nano"), build_encoder("mit_nano")
    path = tmp_path / f"pytorch_model{suffix}"
    layout = hugging_face_layout(source.state_dict())
    save_file(layout, path) if suffix == ".safetensors" else torch.save(layout, path)
    summary = load_encoder_weights(other, path)
    assert "Hugging Face" in summary
    assert "left out classifier" in summary
    same_output(source, other)


def test_hugging_face_names_cover_every_parameter():
    with torch.device("meta"):
        state = build_encoder("mit_b1").state_dict()
    layout = {
        k.removeprefix("segformer.encoder."): v for k, v in hugging_face_layout(state).items() if "segformer" in k
    }
    assert set(rename_hugging_face(layout)) == set(state)


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "backbone."])
def test_published_layout(tmp_path, prefix):
    source, other = build_encoder("mit_nano"), build_encoder("mit_nano")
    extra = {"head.weight": torch.zeros(3, 128)} if prefix in ("", "module.") else {"decode_head.x": torch.zeros(1)}
    state = {prefix + k: v for k, v in source.state_dict().items()}
    state |= {(prefix if prefix == "module." else "") + k: v for k, v in extra.items()}
    torch.save(state, tmp_path / "mit.pth")
    assert "published" in load_encoder_weights(other, tmp_path / "mit.pth")
    same_output(source, other)


def test_colour_weights_for_gray_images_sum_the_channels(tmp_path):
    colour, gray = build_encoder("mit_nano", in_channels=3).eval(), build_encoder("mit_nano", in_channels=1).eval()
    torch.save(colour.state_dict(), tmp_path / "mit.pth")
    assert "from 3 to 1 image channels" in load_encoder_weights(gray, tmp_path / "mit.pth")
    image = torch.randn(2, 1, 40, 56)
    with torch.no_grad():
        for x, y in zip(gray(image).maps, colour(image.repeat(1, 3, 1, 1)).maps, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_four_modalities_with_equal_images_give_what_colour_gave(tmp_path):
    colour, four = build_encoder("resnet18", in_channels=3).eval(), build_encoder("resnet18", in_channels=4).eval()
    torch.save(colour.net.state_dict(), tmp_path / "resnet18.pth")
    load_encoder_weights(four, tmp_path / "resnet18.pth")
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        a, b = four(image.repeat(1, 4, 1, 1)).maps[-1], colour(image.repeat(1, 3, 1, 1)).maps[-1]
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "head", "first"),  # `first`: which of the network's own stages or blocks is our finest map
    [
        ("resnet18", "fc", 0),
        ("convnext_atto", "head", 0),
        ("tf_efficientnet_lite0", "conv_head", 0),
        ("pvt_v2_b0", "head", 0),
        ("deit_tiny_patch16_224", "head", 2),
    ],
)
def test_timms_own_files(tmp_path, name, head, first):
    full = timm.create_model(name, pretrained=False, in_chans=3)
    torch.save(full.state_dict(), tmp_path / "model.pth")
    encoder = build_encoder(name, in_channels=3).eval()
    summary = load_encoder_weights(encoder, tmp_path / "model.pth")
    assert head in summary.split("left out")[1]
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        theirs = full.eval().forward_intermediates(image, indices=[first], norm=True, intermediates_only=True)
        torch.testing.assert_close(encoder(image).maps[0], theirs[0])


@pytest.mark.parametrize("name", ["cnn", "resnet18", "mit_nano"])
def test_a_checkpoint_of_ours_that_contains_the_encoder(tmp_path, name):
    source, other = build_encoder(name), build_encoder(name)
    whole = torch.nn.ModuleDict({"encoder": source, "classifier": torch.nn.Conv2d(source.channels[-1], 1, 1)})
    torch.save({"state_dict": whole.state_dict(), "epoch": 3}, tmp_path / "best.ckpt")
    load_encoder_weights(other, tmp_path / "best.ckpt")
    same_output(source, other)


def test_wrong_variant_is_named_and_nothing_is_loaded(tmp_path):
    torch.save(build_encoder("mit_b0").state_dict(), tmp_path / "mit_b0.pth")
    encoder = build_encoder("mit_nano")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"(?s)mit_b0\.pth: .*than mit_nano.*seems to be mit_b0.*patch_embed1\.proj\.weight: \[32"
    ):
        load_encoder_weights(encoder, tmp_path / "mit_b0.pth")
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize(("encoder", "other"), [("resnet18", "resnet34"), ("mit_nano", "cnn"), ("cnn", "resnet18")])
def test_other_networks_are_refused(tmp_path, encoder, other):
    torch.save(build_encoder(other).state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="another network"):
        load_encoder_weights(build_encoder(encoder), tmp_path / "w.pth")


def test_variants_are_told_apart():
    for name in ("mit_nano", "mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5"):
        with torch.device("meta"):
            assert infer_mit_variant(build_encoder(name).state_dict()) == name
    assert infer_mit_variant({}) is None


class Touch:
    """Unpickling this would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_pickled_objects_are_never_run(tmp_path, how):
    path, mark = tmp_path / "mit.pth", tmp_path / "ran"
    if how == "torch":
        torch.save({"patch_embed1.proj.weight": Touch(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Touch(mark), protocol=2))
    with pytest.raises(CheckpointError, match="not loaded"):
        load_encoder_weights(build_encoder("mit_nano"), path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("w.pth", b""), ("w.pth", b"no weights"), ("w.safetensors", b"no weights"), ("w.bin", b"PK\x03\x04x")],
)
def test_damaged_files_give_one_clear_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_encoder_weights(build_encoder("mit_nano"), tmp_path / name)


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, torch.zeros(3)])
def test_files_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="expected a state dict"):
        load_encoder_weights(build_encoder("mit_nano"), tmp_path / "w.pth")


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_encoder_weights(build_encoder("mit_nano"), tmp_path / "none.pth")
