"""Read checkpoints of SA-CycleGAN-2.5D and of its baseline without attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.reference.cyclegan_layouts import NETWORKS, Networks, read_networks
from seewhy.interop.tensors import Mismatch
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator
from seewhy.nets.generators.published import PlainGenerator25D, SAGenerator25D

__all__ = ["LOGIT_LIMIT", "CycleGANCheckpoint", "read_cyclegan"]

LOGIT_LIMIT = 50.0
"""The published networks clamp the logits of self-attention to ± this."""
SPECTRAL = {
    ".parametrizations.weight.original": ".weight_orig",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
}
"""End of a name in PyTorch's present spectral norm → end of the name in the published checkpoints."""


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
