"""Reference checkpoints, made here from nothing but the published names and shapes."""

import pytest
import torch

from seewhy.errors import CheckpointError
from seewhy.interop.reference.checkpoints import read_reference
from seewhy.nets.encoders.mit import MIT_VARIANTS, MiT
from seewhy.nets.heads import ClassificationHead, SegFormerHead


def published_shapes(widths, depths, heads, num_classes):
    """Names and shapes as listed in the published code's checkpoints, written down independently of our modules."""
    shapes = {}

    def linear(name, out, into):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    def norm(name, width):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width,), (width,)

    before = 3
    for s, (width, depth, kernel, reduction) in enumerate(
        zip(widths, depths, (7, 3, 3, 3), (8, 4, 2, 1), strict=True), 1
    ):
        shapes[f"encoder.patch_embed{s}.proj.weight"] = (width, before, kernel, kernel)
        shapes[f"encoder.patch_embed{s}.proj.bias"] = (width,)
        norm(f"encoder.patch_embed{s}.norm", width)
        for i in range(depth):
            block = f"encoder.block{s}.{i}"
            norm(f"{block}.norm1", width)
            norm(f"{block}.norm2", width)
            linear(f"{block}.attn.q", width, width)
            linear(f"{block}.attn.kv", 2 * width, width)
            linear(f"{block}.attn.proj", width, width)
            if reduction > 1:
                shapes[f"{block}.attn.sr.weight"] = (width, width, reduction, reduction)
                shapes[f"{block}.attn.sr.bias"] = (width,)
                norm(f"{block}.attn.norm", width)
            linear(f"{block}.mlp.fc1", 4 * width, width)
            linear(f"{block}.mlp.fc2", width, 4 * width)
            shapes[f"{block}.mlp.dwconv.dwconv.weight"] = (4 * width, 1, 3, 3)
            shapes[f"{block}.mlp.dwconv.dwconv.bias"] = (4 * width,)
        norm(f"encoder.norm{s}", width)
        linear(f"decoder.linear_c{s}.proj", 256, width)
        before = width
    shapes["decoder.linear_fuse.conv.weight"] = (256, 1024, 1, 1)
    norm("decoder.linear_fuse.bn", 256)
    for kind in ("running_mean", "running_var"):
        shapes[f"decoder.linear_fuse.bn.{kind}"] = (256,)
    shapes["decoder.linear_fuse.bn.num_batches_tracked"] = ()
    shapes["decoder.linear_pred.weight"] = (num_classes, 256, 1, 1)
    shapes["decoder.linear_pred.bias"] = (num_classes,)
    shapes["attn_proj.weight"], shapes["attn_proj.bias"] = (1, 2 * heads, 1, 1), (1,)
    shapes["classifier.weight"] = (num_classes - 1, widths[-1], 1, 1)
    return shapes


MIT_B1 = published_shapes((64, 128, 320, 512), (2, 2, 2, 2), 8, num_classes=2)


def our_model(variant, num_classes):
    encoder = MiT(variant, in_channels=3)
    return torch.nn.ModuleDict(
        {
            "encoder": encoder,
            "decoder": SegFormerHead(encoder.channels, num_classes),
            "attn_proj": torch.nn.Conv2d(encoder.attention_heads, 1, 1),
            "classifier": ClassificationHead(encoder.channels[-1], num_classes - 1, "gmp", bias=False),
        }
    )


def test_mit_b1_has_the_published_parameters():
    with torch.device("meta"):
        model = our_model("mit_b1", 2)
    assert len(list(model.parameters())) == 192
    assert len(model.state_dict()) == 195
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == MIT_B1


@pytest.fixture(scope="module")
def reference():
    variant = MIT_VARIANTS["mit_nano"]
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(variant.widths, variant.depths, variant.heads[-1], num_classes=3)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [False, True])
def test_reads_what_the_reference_writes(tmp_path, reference, prefix, wrap):
    content = {prefix + name: tensor for name, tensor in reference.items()}
    torch.save({"state_dict": content, "iteration": 5} if wrap else content, tmp_path / "best.pth")
    checkpoint = read_reference("afa", tmp_path / "best.pth")
    assert (checkpoint.network, checkpoint.sizes["num_classes"], checkpoint.sizes["in_channels"]) == ("mit_nano", 3, 3)
    assert (checkpoint.sizes["attention_blocks"], checkpoint.sizes["decoder_dim"]) == (2, 256)
    model = our_model(checkpoint.network, checkpoint.sizes["num_classes"])
    model.load_state_dict(checkpoint.state_dict, strict=True)
    assert torch.equal(model["classifier"].weight, reference["classifier.weight"])


def test_variant_of_the_published_size(tmp_path):
    torch.save({name: torch.zeros(shape) for name, shape in MIT_B1.items()}, tmp_path / "wetr_iter_20000.pth")
    assert read_reference("afa", tmp_path / "wetr_iter_20000.pth").network == "mit_b1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("encoder.block2.0.attn.kv.weight"), "1 not in the file: encoder.block2.0.attn.kv.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "1 only in the file: extra.weight"),
        (
            lambda s: s.update({"classifier.weight": torch.zeros(5, 128, 1, 1)}),
            "classifier.weight: .5, 128, 1, 1. in the file",
        ),
        (lambda s: s.update({"attn_proj.weight": torch.zeros(1, 9, 1, 1)}), "no known size"),
        (lambda s: s.update({"encoder.patch_embed2.proj.weight": torch.zeros(33, 16, 3, 3)}), "no known size"),
        (
            lambda s: s.update({"decoder.linear_pred.weight": torch.tensor(1.0)}),
            "other shapes: decoder.linear_pred.weight",
        ),
        (lambda s: s.pop("attn_proj.weight"), "not a checkpoint of AFA: no attn_proj.weight"),
    ],
)
def test_strict(tmp_path, reference, change, words):
    state = dict(reference)
    change(state)
    torch.save(state, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=words):
        read_reference("afa", tmp_path / "best.pth")


def test_another_model_is_refused(tmp_path):
    torch.save(MiT("mit_nano").state_dict(), tmp_path / "mit.pth")
    with pytest.raises(CheckpointError, match="not a checkpoint of AFA"):
        read_reference("afa", tmp_path / "mit.pth")


def test_pickled_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match="not loaded"):
        read_reference("afa", tmp_path / "best.pth")
