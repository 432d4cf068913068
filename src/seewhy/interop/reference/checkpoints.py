"""Read checkpoints of three reference systems: AFA, AMD grading and MRI saliency.

`REFERENCES` holds what differs between them; `read_reference` is the one reader. `cyclegan.py` reads the files of the
fourth system, which hold several networks in many layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import CheckpointError, DataError
from seewhy.interop.tensors import Mismatch, extract_state_dict, read_file, to_plain_data
from seewhy.interop.weights import infer_mit_variant
from seewhy.io.documents import read_json
from seewhy.nets.classifiers.backbones import PlanarFeatures
from seewhy.nets.classifiers.multi_input import MultiInputClassifier
from seewhy.nets.classifiers.volume_views import ChannelView
from seewhy.nets.encoders.mit import MIT_VARIANTS, MiT
from seewhy.nets.heads import ClassificationHead, SegFormerHead

__all__ = [
    "EFFICIENTNETS",
    "REFERENCES",
    "Reference",
    "ReferenceCheckpoint",
    "closest_efficientnet",
    "read_parameters",
    "read_reference",
    "rename_start",
]

Tensors = Mapping[str, Tensor]
Sizes = dict[str, Any]


@dataclass(frozen=True)
class ReferenceCheckpoint:
    """Contents of a reference checkpoint and the sizes that its shapes imply.

    Attributes:
        state_dict: of seewhy's model of the same system, without the buffers that only seewhy has.
        sizes: hyperparameters read from shapes; `network` is the name of the encoder or backbone.
        epoch: after which it was saved; None if the file does not hold it.
        record: configuration or metrics of the file as plain data.
    """

    state_dict: dict[str, Tensor]
    sizes: Sizes
    epoch: int | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Name of the encoder or backbone, e.g. `mit_b1`. Names in configurations are not trusted."""
        return str(self.sizes["network"])


@dataclass(frozen=True)
class Reference:
    """Description of the checkpoints of one system.

    Attributes:
        title: of the system, for messages.
        file: that its training writes, for messages.
        required: names of tensors that sizes are read from → number of their dimensions.
        measure: tensors, and options of the caller → sizes.
        build: sizes → modules whose state dict has the names of seewhy's model; called on the meta device.
        keys: sizes → beginnings of seewhy's names → beginnings of the reference's names.
        describe: sizes → the network in words, for messages.
        record: content of the file → what to keep of it besides the weights.
        hint: names of tensors → remark for a file without the required names.
    """

    title: str
    file: str
    required: Mapping[str, int]
    measure: Callable[..., Sizes]
    build: Callable[[Sizes], dict[str, nn.Module]]
    describe: Callable[[Sizes], str]
    keys: Callable[[Sizes], Mapping[str, str]] = lambda sizes: {}
    record: Callable[[Mapping[str, Any]], Any] = lambda content: {}
    hint: Callable[[Iterable[str]], str] = lambda names: ""


def read_reference(kind: str, path: str | Path, **options: Any) -> ReferenceCheckpoint:
    """Read a reference checkpoint strictly: no tensor may be missing, unexpected or of another shape.

    Only weights and plain data are read (`weights_only=True`); files with other objects are refused and the classes
    of these objects are named.

    Args:
        kind: a key of `REFERENCES`.
        path: of the file; the prefix `module.` of DistributedDataParallel is removed.
        options: for `amd`: `inputs`, the names of its images in the order of its backbones.

    Raises:
        CheckpointError: no such file, unsafe to load, or not a checkpoint of this system.
    """
    path = Path(path)
    reference = REFERENCES[kind]
    content = read_file(path)
    tensors = extract_state_dict(content, path)
    _check_required(reference, tensors, path)
    try:
        sizes = reference.measure(tensors, **options)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    with torch.device("meta"):
        expected = nn.ModuleDict(reference.build(sizes)).state_dict()
    keys = reference.keys(sizes)
    names = {rename_start(name, keys): name for name in expected}
    mismatch = Mismatch(tensors, {name: expected[ours] for name, ours in names.items()})
    if mismatch:
        raise CheckpointError(
            f"{path}: not a checkpoint of {reference.title} with {reference.describe(sizes)}:\n{mismatch.describe()}\n"
            f"  → give {reference.file}, unchanged"
        )
    record = content if isinstance(content, Mapping) else {}
    epoch, further = record.get("epoch"), to_plain_data(reference.record(record))
    return ReferenceCheckpoint(
        state_dict={names[name]: tensor for name, tensor in tensors.items()},
        sizes=sizes,
        epoch=epoch if isinstance(epoch, int) else None,
        record=further if isinstance(further, dict) else {},
    )


def rename_start(name: str, beginnings: Mapping[str, str]) -> str:
    """Replace the beginning of a name; the first entry that fits counts.

    Example:
        >>> from seewhy.interop.reference.checkpoints import rename_start
        >>> rename_start("net.head.bias", {"net.head.": "backbone.classifier.1."})
        'backbone.classifier.1.bias'
        >>> rename_start("temperature", {"net.head.": "backbone.classifier.1."})
        'temperature'
    """
    for start, replacement in beginnings.items():
        if name.startswith(start):
            return replacement + name.removeprefix(start)
    return name


def _check_required(reference: Reference, tensors: Tensors, path: Path) -> None:
    missing = [name for name in reference.required if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{path}: not a checkpoint of {reference.title}: no {', '.join(missing)} among its {len(tensors)} tensors "
            f"(first: {next(iter(tensors))}).{reference.hint(tensors)} Expected {reference.file}"
        )
    wrong = [name for name, dimensions in reference.required.items() if tensors[name].ndim != dimensions]
    if wrong:
        shapes = ", ".join(f"{name} {list(tensors[name].shape)}" for name in wrong)
        raise CheckpointError(f"{path}: has the names of {reference.title}, but other shapes: {shapes}")


EFFICIENTNETS = (
    *(f"efficientnet_b{size}" for size in range(8)),
    *(f"efficientnet_v2_{size}" for size in "sml"),
)


def closest_efficientnet(features: Tensors) -> str:
    """Return the EfficientNet of torchvision whose tensors differ least from these; the first one without difference.

    Names in configurations and folders are not reliable: a reference system trains B0 under the name B5.

    Args:
        features: tensors of torchvision's `features` under their names inside of it (`0.0.weight`, …).
    """
    stem = features.get("0.0.weight")
    channels = int(stem.shape[1]) if stem is not None and stem.ndim == 4 else 3
    best, fewest = "", -1
    for name in EFFICIENTNETS:
        differences = len(Mismatch(features, _build_features(name, channels)))
        if not differences:
            return name
        if fewest < 0 or differences < fewest:
            best, fewest = name, differences
    return best


@cache
def _build_features(name: str, channels: int) -> Tensors:
    """Build the tensors of a network on the meta device. Building all 11 networks takes seconds, so it is done once."""
    with torch.device("meta"):
        return PlanarFeatures(name, in_channels=channels, library="torchvision").stages.state_dict()


def _select(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """Select the tensors below a prefix, without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _measure_afa(tensors: Tensors) -> Sizes:
    variant = infer_mit_variant(_select(tensors, "encoder."))
    heads = MIT_VARIANTS[variant].heads[-1] if variant else 0
    attention = tensors["attn_proj.weight"].shape[1]
    if variant is None or attention % heads:
        raise CheckpointError(
            f"has AFA's names, but its encoder or attn_proj is of no known size (known: {', '.join(MIT_VARIANTS)}; "
            "attn_proj reads the heads of whole blocks)"
        )
    return {
        "network": variant,
        "num_classes": tensors["decoder.linear_pred.weight"].shape[0],
        "in_channels": tensors["encoder.patch_embed1.proj.weight"].shape[1],
        "attention_blocks": attention // heads,
        "decoder_dim": tensors["decoder.linear_c1.proj.weight"].shape[0],
    }


def _build_afa(sizes: Sizes) -> dict[str, nn.Module]:
    shape, classes = MIT_VARIANTS[sizes["network"]], sizes["num_classes"]
    blocks = min(sizes["attention_blocks"], shape.depths[-1])
    return {
        "encoder": MiT(sizes["network"], in_channels=sizes["in_channels"], attention_blocks=blocks),
        "decoder": SegFormerHead(shape.widths, classes, dim=sizes["decoder_dim"]),
        "attn_proj": nn.Conv2d(blocks * shape.heads[-1], 1, 1),
        "classifier": ClassificationHead(shape.widths[-1], classes - 1, "gmp", bias=False),
    }


def _measure_amd(tensors: Tensors, inputs: Sequence[str] = ("mnv", "fluid", "ga", "drusen")) -> Sizes:
    return {
        "network": closest_efficientnet(_select(tensors, "out.backbone1.")),
        "inputs": tuple(inputs),
        "hidden": int(tensors["out.classifier.0.weight"].shape[0]),
        "outputs": int(tensors["out.classifier.3.weight"].shape[0]),
    }


def _build_amd(sizes: Sizes) -> dict[str, nn.Module]:
    backbone = {"name": sizes["network"], "library": "torchvision"}
    net = MultiInputClassifier(
        inputs=sizes["inputs"],
        num_outputs=sizes["outputs"],
        backbone=backbone,
        stem="conv1x1",
        hidden=sizes["hidden"],
    )
    return {"net": net}


def _amd_keys(sizes: Sizes) -> dict[str, str]:
    branches = {f"net.branches.{key}.net.features.": f"out.backbone{n}." for n, key in enumerate(sizes["inputs"], 1)}
    return {"net.stem.": "out.to3.", "net.head.": "out.classifier.", **branches}


def _amd_hint(names: Iterable[str]) -> str:
    three_d = any("_conv_stem" in name or name.startswith("out.backbone.") for name in names)
    return " It seems to be the reference's 3D model, which is not imported." if three_d else ""


def _amd_record(content: Mapping[str, Any]) -> Any:
    """Return the reference's configuration, which Lightning stores as the argument `config`."""
    parameters = content.get("hyper_parameters", {})
    return parameters.get("config", parameters) if isinstance(parameters, Mapping) else {}


def _measure_mri(tensors: Tensors) -> Sizes:
    return {
        "network": closest_efficientnet(_select(tensors, "backbone.features.")),
        "depth": int(tensors["backbone.features.0.0.weight"].shape[1]),
        "outputs": int(tensors["backbone.classifier.1.weight"].shape[0]),
    }


def _build_mri(sizes: Sizes) -> dict[str, nn.Module]:
    backbone = {"name": sizes["network"], "library": "torchvision"}
    return {"net": ChannelView(backbone, depth=sizes["depth"], outputs=sizes["outputs"])}


REFERENCES = {
    # Ru et al. 2022, and its medical fork. The pooling (gmp unless it was changed), the thresholds and the
    # normalisation of images (gray levels 0–255 repeated over the channels, then ImageNet's mean and standard
    # deviation) are not in the file.
    "afa": Reference(
        title="AFA",
        file="the file that its training script writes, e.g. checkpoints/best.pth; pretrained weights of an encoder "
        "alone go to model.encoder's weights instead",
        required={
            "encoder.patch_embed1.proj.weight": 4,
            "decoder.linear_c1.proj.weight": 2,
            "decoder.linear_pred.weight": 4,
            "attn_proj.weight": 4,
            "classifier.weight": 4,
        },
        measure=_measure_afa,
        build=_build_afa,
        describe=lambda sizes: f"{sizes['network']} and {sizes['num_classes']} classes",
    ),
    # Four en-face images, an EfficientNet of torchvision each; the state dict is that of `AMDGrading` with
    # stem=conv1x1 without its `temperature`. The head's hidden layer has 512 units in the reference.
    "amd": Reference(
        title="the AMD reference's 2D model",
        file="the .ckpt that its training writes",
        required={
            "out.to3.weight": 4,
            "out.backbone1.0.0.weight": 4,
            "out.classifier.0.weight": 2,
            "out.classifier.3.weight": 2,
        },
        measure=_measure_amd,
        build=_build_amd,
        keys=_amd_keys,
        describe=lambda sizes: (
            f"{len(sizes['inputs'])} inputs ({', '.join(sizes['inputs'])}) and {sizes['network']}, the most similar "
            "network"
        ),
        record=_amd_record,
        hint=_amd_hint,
    ),
    # HC against TLE from coronal slices as channels (115 in the reference); one output is one logit, as in the
    # reference. The state dict is that of `MRIClassification` with view=channels without its `temperature`.
    "mri": Reference(
        title="the MRI reference",
        file="the best_model.pth that its train.py writes",
        required={"backbone.features.0.0.weight": 4, "backbone.classifier.1.weight": 2},
        measure=_measure_mri,
        build=_build_mri,
        keys=lambda sizes: {"net.encoder.net.": "backbone.", "net.head.": "backbone.classifier.1."},
        describe=lambda sizes: f"{sizes['network']}, the most similar network",
        record=lambda content: content.get("metrics", {}),
    ),
}
"""System → description of its checkpoints."""


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Read the MRI reference's `parameters.json`: the options of its training script.

    Raises:
        CheckpointError: no such file, or not a JSON object.
    """
    try:
        return dict(read_json(path))
    except DataError as error:
        raise CheckpointError(f"{error}; give the parameters.json of the run's folder") from error
