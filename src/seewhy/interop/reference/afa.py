"""Checkpoints of AFA (Ru et al. 2022) and of its medical fork."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from seewhy.errors import CheckpointError
from seewhy.interop.encoder_weights import infer_mit_variant
from seewhy.interop.tensors import Mismatch, read_tensors
from seewhy.nets.encoders.mit import MIT_VARIANTS, MiT
from seewhy.nets.heads import ClassificationHead, SegFormerHead

__all__ = ["AFACheckpoint", "read_afa"]

REQUIRED = (
    "encoder.patch_embed1.proj.weight",
    "decoder.linear_c1.proj.weight",
    "decoder.linear_pred.weight",
    "attn_proj.weight",
    "classifier.weight",
)


@dataclass(frozen=True)
class AFACheckpoint:
    """What a reference checkpoint holds and what can be told from it.

    The pooling (gmp in the reference unless it was changed), the thresholds and the normalisation of images
    (gray levels 0–255 repeated over the channels, then ImageNet's mean and standard deviation) are not in the
    file and have to be given.

    Attributes:
        state_dict: of `WeaklySupervisedSegmentation` with `encoder`, `decoder`, `attn_proj`, `classifier`.
        variant: name of the encoder, e.g. `mit_b1`.
        num_classes: classes including the background.
        in_channels: channels of the image, 3 in the reference.
        attention_blocks: last blocks whose attention `attn_proj` reads, 2 in the reference.
        decoder_dim: channels of the decoder's projections, 256 in the reference.
    """

    state_dict: dict[str, Tensor]
    variant: str
    num_classes: int
    in_channels: int
    attention_blocks: int
    decoder_dim: int


def read_afa(path: str | Path) -> AFACheckpoint:
    """Read a reference checkpoint strictly: every tensor there, none over, each of the right shape.

    Args:
        path: `wetr_iter_*.pth` or `best.pth`, bare or with the prefix `module.`; opened with
            `weights_only=True`.

    Raises:
        CheckpointError: no such file, unsafe to load, or not a checkpoint of AFA.
    """
    path = Path(path)
    tensors = read_tensors(path)
    absent = [name for name in REQUIRED if name not in tensors]
    if absent:
        raise CheckpointError(
            f"{path}: not a checkpoint of AFA: no {', '.join(absent)} among its {len(tensors)} tensors. "
            "Expected the file that its training script writes, e.g. checkpoints/best.pth; pretrained weights "
            "of an encoder alone go to model.encoder's weights instead"
        )
    checkpoint = _described(path, tensors)
    mismatch = Mismatch(tensors, _expected(checkpoint))
    if mismatch:
        raise CheckpointError(
            f"{path}: not a checkpoint of AFA with {checkpoint.variant} and {checkpoint.num_classes} classes:\n"
            f"{mismatch}\n  → give the file that AFA's training script writes, unchanged"
        )
    return checkpoint


def _described(path: Path, tensors: dict[str, Tensor]) -> AFACheckpoint:
    encoder = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
    # Their sizes are read before all shapes are compared, so they must have sizes.
    sized = all(tensors[name].dim() in (2, 4) for name in REQUIRED)
    variant = infer_mit_variant(encoder) if sized else None
    heads = MIT_VARIANTS[variant].heads[-1] if variant else 0
    stem, attention = tensors["encoder.patch_embed1.proj.weight"], tensors["attn_proj.weight"]
    projection = tensors["decoder.linear_c1.proj.weight"]
    if variant is None or attention.shape[1] % heads:
        raise CheckpointError(
            f"{path}: has AFA's names, but its encoder or attn_proj is of no known size "
            f"(known: {', '.join(MIT_VARIANTS)}; attn_proj reads whole blocks)"
        )
    return AFACheckpoint(
        state_dict=tensors,
        variant=variant,
        num_classes=tensors["decoder.linear_pred.weight"].shape[0],
        in_channels=stem.shape[1],
        attention_blocks=attention.shape[1] // heads,
        decoder_dim=projection.shape[0],
    )


def _expected(checkpoint: AFACheckpoint) -> Mapping[str, Tensor]:
    """The tensors such a model has, without memory for their values."""
    shape = MIT_VARIANTS[checkpoint.variant]
    blocks = min(checkpoint.attention_blocks, shape.depths[-1])
    with torch.device("meta"):
        model = nn.ModuleDict(
            {
                "encoder": MiT(checkpoint.variant, in_channels=checkpoint.in_channels, attention_blocks=blocks),
                "decoder": SegFormerHead(shape.widths, checkpoint.num_classes, dim=checkpoint.decoder_dim),
                "attn_proj": nn.Conv2d(blocks * shape.heads[-1], 1, 1),
                "classifier": ClassificationHead(shape.widths[-1], checkpoint.num_classes - 1, "gmp", bias=False),
            }
        )
    return model.state_dict()
