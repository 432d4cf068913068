"""Checkpoints of SA-CycleGAN-2.5D and of its baseline without attention."""

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
from seewhy.nets.generators.plain import PlainGenerator25D
from seewhy.nets.generators.self_attention import SAGenerator25D

__all__ = ["LOGIT_LIMIT", "CycleGANCheckpoint", "read_cyclegan"]

LOGIT_LIMIT = 50.0
"""The published networks clamp the logits of self-attention to ± this."""
SPECTRAL = {
    ".parametrizations.weight.original": ".weight_orig",
    ".parametrizations.weight.0._u": ".weight_u",
    ".parametrizations.weight.0._v": ".weight_v",
}
"""End of a name in today's spectral norm → in that of the published checkpoints."""


@dataclass(frozen=True)
class CycleGANCheckpoint:
    """What a checkpoint holds and what can be told from it.

    Published networks were trained on intensities in [0, 1] (the file does not say), and their cycles on fakes in
    the layout of `seewhy.nets.generators.slice_stack.repeat_slice(..., legacy_layout=True)`. States of optimisers
    are not taken.

    Attributes:
        attention: whether the networks are those with attention (`SAGenerator25D`) or the baseline's
            (`PlainGenerator25D`).
        generators: `A2B`, `B2A` → state dict of such a generator; one of them where the file holds one.
        discriminators: `A`, `B` → state dict of `MultiScaleDiscriminator`; empty where the file holds none.
        generator_options: what the generators' class is called with.
        discriminator_options: what `MultiScaleDiscriminator` is called with; empty where there is none.
        record: epoch, history, configuration and whatever else stood beside, as plain data.
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
        """Epoch, or round of federated training, that it was saved after; None where the file does not say."""
        found = self.record.get("epoch", self.record.get("round"))
        return found if isinstance(found, int) else None


def read_cyclegan(path: str | Path, *, direction: Literal["A2B", "B2A"] = "A2B") -> CycleGANCheckpoint:
    """Read a checkpoint strictly: every tensor of its networks there, none over, each of the right shape.

    Taken are files of whole models (`model_state_dict`, `global_model_state_dict`, `state_dict` or bare), of
    networks apart (`generator_A2B_state_dict`, `G_A2B_state_dict`, `generator_AB`, `G_A2B`, …), of one unnamed
    generator, and the `.npz` of its PatchNCE variant; with `module.` and `_orig_mod.` anywhere in names, and with
    spectral norm in its old and its present form.

    Args:
        path: `checkpoint_best.pth`, `checkpoint_0100.npz`, ….
        direction: of a generator that stands alone and unnamed.

    Raises:
        CheckpointError: no such file, unsafe to load, or not a checkpoint of these networks.
        ConfigError: another direction.
    """
    path = Path(path)
    if direction not in ("A2B", "B2A"):
        raise ConfigError(f"direction={direction!r} must be A2B or B2A")
    networks = read_networks(path, direction=direction)
    tensors = {name: {_theirs(key): tensor for key, tensor in net.items()} for name, net in networks.tensors.items()}
    generator = next((tensors[name] for name in NETWORKS[:2] if tensors.get(name)), None)
    if generator is None:
        raise CheckpointError(f"{path}: holds no generator, only {', '.join(tensors)}")
    attention, options = _generator_options(generator, path)
    judge = next((tensors[name] for name in NETWORKS[2:] if tensors.get(name)), {})
    judge_options = _discriminator_options(judge, path)
    expected = _expected(networks, attention, options, judge_options)
    _compare(path, tensors, expected, attention)
    ours = {name: {_ours(key): tensor for key, tensor in net.items()} for name, net in tensors.items()}
    return CycleGANCheckpoint(
        attention=attention,
        generators={name.removeprefix("G_"): net for name, net in ours.items() if name.startswith("G_")},
        discriminators={name.removeprefix("D_"): net for name, net in ours.items() if name.startswith("D_")},
        generator_options=options,
        discriminator_options=judge_options,
        record=networks.record,
        left_out=networks.left_out,
    )


def _generator_options(net: Mapping[str, Tensor], path: Path) -> tuple[bool, dict[str, Any]]:
    """Which generator it is, and of what size, from the shapes of its first and last tensors."""
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


def _expected(
    networks: Networks, attention: bool, options: Mapping[str, Any], judge_options: Mapping[str, Any]
) -> dict[str, dict[str, Tensor]]:
    """State dicts of each network that must be there, in the reference's names, without memory for their values."""
    if not judge_options:  # where they are missing from a whole model, they are those of the generators' kind
        judge_options = {"channels": options["modalities"], "attention": attention}
    try:
        with torch.device("meta"):
            generator = (SAGenerator25D if attention else PlainGenerator25D)(**options)
            judge = MultiScaleDiscriminator(**judge_options)
    except ConfigError as error:
        raise CheckpointError(f"the sizes of its networks make none: {error}") from error
    kinds: dict[str, nn.Module] = {"G": generator, "D": judge}
    names = NETWORKS if networks.complete else tuple(networks.tensors)
    return {name: {_theirs(key): tensor for key, tensor in kinds[name[0]].state_dict().items()} for name in names}


def _compare(
    path: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    expected: Mapping[str, Mapping[str, Tensor]],
    attention: bool,
) -> None:
    found, wanted = (
        {f"{name}.{key}": tensor for name, net in nets.items() for key, tensor in net.items()}
        for nets in (tensors, expected)
    )
    mismatch = Mismatch(found, wanted)
    if mismatch:
        kind = "SA-CycleGAN-2.5D" if attention else "the baseline of SA-CycleGAN-2.5D"
        raise CheckpointError(
            f"{path}: not a checkpoint of {kind} ({len(wanted)} tensors):\n{mismatch.describe()}\n"
            "  → give the file that its training wrote, unchanged"
        )


def _theirs(name: str) -> str:
    """The reference's name of a tensor of ours."""
    for ours, theirs in SPECTRAL.items():
        if name.endswith(ours):
            return name.removesuffix(ours) + theirs
    return name


def _ours(name: str) -> str:
    """Our name of a tensor of the reference."""
    for ours, theirs in SPECTRAL.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name
