"""Read checkpoints of SA-CycleGAN-2.5D and of its baseline without attention, in all layouts of its scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.errors import CheckpointError, ConfigError, DataError
from seewhy.interop.tensors import Mismatch, list_foreign_tensors, read_file, to_plain_data
from seewhy.io.documents import read_json
from seewhy.io.npy import read_npz
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator
from seewhy.nets.generators.published import PlainGenerator25D, SAGenerator25D

__all__ = ["LOGIT_LIMIT", "NETWORKS", "CycleGANCheckpoint", "Networks", "read_cyclegan", "read_networks"]

LOGIT_LIMIT = 50.0
"""The published networks clamp the logits of self-attention to ± this."""
SPECTRAL = {
    ".parametrizations.weight.original": ".weight_orig",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
}
"""End of a name in PyTorch's present spectral norm → end of the name in the published checkpoints."""
NETWORKS = ("G_A2B", "G_B2A", "D_A", "D_B")
WHOLE = ("model_state_dict", "global_model_state_dict", "state_dict", "model")
"""Keys of one state dict of all networks, or of a single unnamed generator."""
APART = {
    "G_A2B": ("generator_A2B_state_dict", "G_A2B_state_dict", "generator_A2B", "generator_AB", "G_A2B"),
    "G_B2A": ("generator_B2A_state_dict", "G_B2A_state_dict", "generator_B2A", "generator_BA", "G_B2A"),
    "D_A": ("discriminator_A_state_dict", "D_A_state_dict", "discriminator_A", "D_A"),
    "D_B": ("discriminator_B_state_dict", "D_B_state_dict", "discriminator_B", "D_B"),
}
"""Network → keys of its separate state dict."""
WRAPPERS = ("module", "_orig_mod")
"""Parts that DataParallel and torch.compile insert into names, at any place."""
RECORD = ("epoch", "round", "global_step", "best_val_ssim", "best_metric", "best_ssim", "config", "history")
FIRST = ("encoder_initial.slice_conv.1.weight", "initial.0.weight")
"""First tensor of a generator with attention, and of the baseline's generator."""
LFS = b"version https://git-lfs"
"""First bytes of the pointer files in a clone made without Git LFS."""


@dataclass(frozen=True)
class CycleGANCheckpoint:
    """Networks of a checkpoint, and their options read from shapes.

    Published networks were trained on intensities in [0, 1] (which is not in the file), and their cycles on fakes in
    the layout of `seewhy.nets.generators.base.repeat_slice(..., legacy_layout=True)`. States of optimisers
    are not read.

    Attributes:
        attention: True for networks with attention (`SAGenerator25D`), False for the baseline (`PlainGenerator25D`).
        generators: `A2B`, `B2A` → state dict of such a generator; only one of them if the file holds one.
        discriminators: `A`, `B` → state dict of `MultiScaleDiscriminator`; empty if the file holds none.
        generator_options: keyword arguments of the generator.
        discriminator_options: keyword arguments of `MultiScaleDiscriminator`; empty if the file holds none.
        record: epoch, history, configuration and other contents of the file as plain data.
        left_out: names of further tensors, e.g. projections of PatchNCE, which only training needs.
        legacy_layout: see above.
    """

    attention: bool
    generators: dict[str, dict[str, Tensor]]
    discriminators: dict[str, dict[str, Tensor]]
    generator_options: dict[str, Any]
    discriminator_options: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    legacy_layout: bool = True

    @property
    def epoch(self) -> int | None:
        """Epoch, or round of federated training, after which it was saved; None if the file does not hold it."""
        epoch = self.record.get("epoch", self.record.get("round"))
        return epoch if isinstance(epoch, int) else None


def read_cyclegan(path: str | Path, *, direction: Literal["A2B", "B2A"] = "A2B") -> CycleGANCheckpoint:
    """Read a checkpoint strictly: no tensor of its networks may be missing, unexpected or of another shape.

    Supported layouts: whole models (`model_state_dict`, `global_model_state_dict`, `state_dict` or a bare state
    dict), separate networks (`generator_A2B_state_dict`, `G_A2B_state_dict`, `generator_AB`, `G_A2B`, …), a single
    unnamed generator, and the `.npz` of the PatchNCE variant; with `module.` and `_orig_mod.` anywhere in names, and
    with spectral norm in its old and its present form.

    Args:
        path: `checkpoint_best.pth`, `checkpoint_0100.npz`, ….
        direction: of a single generator without a name.

    Raises:
        CheckpointError: no such file, unsafe to load, or not a checkpoint of these networks.
        ConfigError: another direction.
    """
    path = Path(path)
    if direction not in ("A2B", "B2A"):
        raise ConfigError(f"direction={direction!r} must be A2B or B2A")
    networks = read_networks(path, direction=direction)
    tensors = {
        name: {_rename_end(key, SPECTRAL): tensor for key, tensor in net.items()}
        for name, net in networks.tensors.items()
    }
    generator = next((tensors[name] for name in NETWORKS[:2] if tensors.get(name)), None)
    if generator is None:
        raise CheckpointError(f"{path}: holds no generator, only {', '.join(tensors)}")
    attention, options = _generator_options(generator, path)
    discriminator = next((tensors[name] for name in NETWORKS[2:] if tensors.get(name)), {})
    discriminator_options = _discriminator_options(discriminator, path)
    _compare(path, tensors, _build_expected(networks, attention, options, discriminator_options), attention)
    present = {end: start for start, end in SPECTRAL.items()}
    ours = {name: {_rename_end(key, present): tensor for key, tensor in net.items()} for name, net in tensors.items()}
    return CycleGANCheckpoint(
        attention=attention,
        generators={name.removeprefix("G_"): net for name, net in ours.items() if name.startswith("G_")},
        discriminators={name.removeprefix("D_"): net for name, net in ours.items() if name.startswith("D_")},
        generator_options=options,
        discriminator_options=discriminator_options,
        record=networks.record,
        left_out=networks.left_out,
    )


def _generator_options(net: Mapping[str, Tensor], path: Path) -> tuple[bool, dict[str, Any]]:
    """Read from the first and last tensors whether a generator has attention, and its options."""
    attention = "encoder_initial.slice_conv.1.weight" in net
    first = net.get("encoder_initial.slice_conv.1.weight" if attention else "initial.0.weight")
    last = net.get("output.1.weight" if attention else "output.0.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 4:
        raise CheckpointError(
            f"{path}: its generator is neither SA-CycleGAN-2.5D's (encoder_initial.slice_conv.1.weight, "
            f"output.1.weight) nor its baseline's (initial.0.weight, output.0.weight); first tensor: {next(iter(net))}"
        )
    slices, rest = divmod(int(first.shape[1]), int(last.shape[0]))
    if rest or slices % 2 == 0:
        raise CheckpointError(
            f"{path}: its generator makes {last.shape[0]} channels of {first.shape[1]}; expected an odd number of "
            "slices times the modalities, e.g. 4 of 12"
        )
    trunk = "bottleneck" if attention else "residual_blocks"
    numbers = {int(key.split(".")[1]) for key in net if key.startswith(f"{trunk}.") and key.split(".")[1].isdigit()}
    options: dict[str, Any] = {"slices": slices, "modalities": int(last.shape[0]), "width": int(first.shape[0])}
    options.update(blocks=len(numbers), output="tanh")
    if attention:
        options["attention_blocks"] = [n for n in sorted(numbers) if f"{trunk}.{n}.attention.query.weight" in net]
        options["logit_limit"] = LOGIT_LIMIT
    return attention, options


def _discriminator_options(net: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    if not net:
        return {}
    attention = "discriminators.0.model.8.query.weight" in net
    name = f"discriminators.0.model.0.{'' if attention else 'block.0.'}weight_orig"
    if name not in net or net[name].ndim != 4:
        raise CheckpointError(
            f"{path}: its discriminators are not SA-CycleGAN-2.5D's: no {name} [width, channels, 4, 4]"
        )
    width, channels = net[name].shape[:2]
    scales = len({key.split(".")[1] for key in net if key.startswith("discriminators.")})
    limit = {"logit_limit": LOGIT_LIMIT} if attention else {}
    return {"channels": int(channels), "width": int(width), "scales": scales, "attention": attention, **limit}


def _build_expected(
    networks: Networks, attention: bool, options: Mapping[str, Any], discriminator_options: Mapping[str, Any]
) -> dict[str, dict[str, Tensor]]:
    """Build the state dicts that the file must hold, under the reference's names, on the meta device."""
    if not discriminator_options:  # missing from a whole model: expect those that belong to the generators
        discriminator_options = {"channels": options["modalities"], "attention": attention}
    try:
        with torch.device("meta"):
            generator = (SAGenerator25D if attention else PlainGenerator25D)(**options)
            discriminator = MultiScaleDiscriminator(**discriminator_options)
    except ConfigError as error:
        raise CheckpointError(f"networks of these sizes do not exist: {error}") from error
    kinds: dict[str, nn.Module] = {"G": generator, "D": discriminator}
    names = NETWORKS if networks.complete else tuple(networks.tensors)
    states = {kind: net.state_dict() for kind, net in kinds.items()}
    return {name: {_rename_end(key, SPECTRAL): tensor for key, tensor in states[name[0]].items()} for name in names}


def _compare(
    path: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    expected: Mapping[str, Mapping[str, Tensor]],
    attention: bool,
) -> None:
    actual, wanted = (
        {f"{name}.{key}": tensor for name, net in nets.items() for key, tensor in net.items()}
        for nets in (tensors, expected)
    )
    mismatch = Mismatch(actual, wanted)
    if mismatch:
        kind = "SA-CycleGAN-2.5D" if attention else "the baseline of SA-CycleGAN-2.5D"
        raise CheckpointError(
            f"{path}: not a checkpoint of {kind} ({len(wanted)} tensors):\n{mismatch.describe()}\n"
            "  → give the file that its training wrote, unchanged"
        )


def _rename_end(name: str, ends: Mapping[str, str]) -> str:
    """Replace the end of a name; the first entry that fits counts."""
    for end, replacement in ends.items():
        if name.endswith(end):
            return name.removesuffix(end) + replacement
    return name


# -- layouts of files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Networks:
    """Networks of a checkpoint under the reference's names.

    Attributes:
        tensors: network (see `NETWORKS`) → its state dict, without wrappers in names.
        complete: whether the layout holds all four networks, so that none may be missing.
        record: other contents as plain data.
        left_out: keys of tensors that were not read, e.g. the projections of PatchNCE.
    """

    tensors: dict[str, dict[str, Tensor]]
    complete: bool
    record: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_networks(path: Path, *, direction: str) -> Networks:
    """Find the networks in a `.pth` or `.npz` file; no code of the file is run.

    Args:
        path: of the file; an `.npz` may come with a `.json` of the same name.
        direction: `A2B` or `B2A`, of a single generator without a name.

    Raises:
        CheckpointError: no such file, unsafe to load, or no networks of SA-CycleGAN-2.5D in it.
    """
    if _is_pointer(path):
        raise CheckpointError(
            f"{path}: a pointer of Git LFS, not the weights themselves; fetch them (git lfs pull), or download the file"
        )
    content: Any
    if path.suffix == ".npz":
        content, record, left_out = _read_npz(path)
    else:
        content, record, left_out = read_file(path), {}, ()
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dict of networks, found {type(content).__name__}")
    record = record or {key: to_plain_data(content[key]) for key in RECORD if key in content}
    apart = {
        name: dict(next(content[key] for key in keys if isinstance(content.get(key), Mapping)))
        for name, keys in APART.items()
        if any(isinstance(content.get(key), Mapping) for key in keys)
    }
    if apart:
        networks = {name: _strip_wrappers(state, path, name) for name, state in apart.items()}
        return Networks(networks, complete=False, record=record, left_out=left_out)
    inside = next((content[key] for key in WHOLE if isinstance(content.get(key), Mapping)), content)
    tensors = _strip_wrappers(inside, path, "the state dict")
    if any(name in tensors for name in FIRST):
        return Networks({f"G_{direction}": tensors}, complete=False, record=record, left_out=left_out)
    return Networks(_split_networks(tensors, path), complete=True, record=record, left_out=left_out)


def _split_networks(tensors: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, Tensor]]:
    """Split one state dict of all networks."""
    networks: dict[str, dict[str, Tensor]] = {name: {} for name in NETWORKS}
    others = []
    for key, tensor in tensors.items():
        network, _, name = key.partition(".")
        if network in networks:
            networks[network][name] = tensor
        else:
            others.append(key)
    if others or not any(networks.values()):
        raise CheckpointError(
            f"{path}: not a checkpoint of SA-CycleGAN-2.5D: {len(others)} of its {len(tensors)} tensors belong to "
            f"none of {', '.join(NETWORKS)} (first: {others[0] if others else 'none'}); expected a file that its "
            "training wrote, e.g. checkpoint_best.pth, or one of generator_A2B_state_dict and generator_B2A_state_dict"
        )
    return networks


def _strip_wrappers(state: Mapping[Any, Any], path: Path, where: str) -> dict[str, Tensor]:
    """Remove wrappers from the names of a state dict.

    Raises:
        CheckpointError: values that are not tensors, tensors that are no plain weights, or two of one name.
    """
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        what = f"{', '.join(others[:3])} are not tensors" if others else "it is empty"
        raise CheckpointError(
            f"{path}: expected names → tensors in {where}, but {what}; give a file that SA-CycleGAN-2.5D's training "
            "or export wrote"
        )
    if foreign := list_foreign_tensors({str(key): tensor for key, tensor in state.items()}):
        raise CheckpointError(f"{path}: {foreign[0]}; expected dense tensors of real numbers")
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = ".".join(step for step in str(key).split(".") if step not in WRAPPERS)
        if name in tensors:
            raise CheckpointError(f"{path}: {where} holds two tensors {name!r}, with and without module. or _orig_mod.")
        tensors[name] = tensor
    return tensors


def _read_npz(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]:
    """Read the tensors below `model/`, the record of the `.json` file, and the names of other arrays."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such weights file")
    model: dict[str, Tensor] = {}
    left_out = []
    try:
        for key, array in read_npz(path).items():
            group, _, name = key.partition("/")
            if group != "model" or not name:
                left_out.append(key)
                continue
            # Single numbers are stored as arrays of one value with this ending.
            scalar = name.endswith("::scalar")
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            model[name.removesuffix("::scalar")] = tensor.reshape(()) if scalar else tensor.reshape(array.shape)
    except (DataError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be read as arrays of numbers: {error}") from error
    return model, _read_sidecar(path.with_suffix(".json")), tuple(left_out)


def _is_pointer(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(LFS)) == LFS


def _read_sidecar(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        record = read_json(path, Any)
    except DataError as error:
        raise CheckpointError(f"{error}; repair it or move it away") from error
    return dict(to_plain_data(record)) if isinstance(record, dict) else {}
