"""A translating network as explainers take it: a score per modality, so that one can ask what a modality rests on.

What the attention of a translating network does to one slice: gates as they multiply, self-attention as it looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.batch import MODALITIES, Batch
from seewhy.errors import ConfigError, nearest
from seewhy.explain.attention.gates import Gates, read_channel_gates
from seewhy.explain.attention.self_attention import SelfAttention
from seewhy.explain.explained_model import Explainable, ExplainedModel
from seewhy.explain.frozen_module import keep_unchanged
from seewhy.nets.generators.blocks import CBAM, ChannelGate, SelfAttention2d, SpatialGate
from seewhy.nets.generators.slice_stack import centre_slice

__all__ = ["ModalityScores", "attention_of", "explained_translation", "has_attention"]

MEASURES = ("intensity", "change")
LEAST = 1e-4
"""A share is held this far from 0 and 1, where its logit would be infinite."""


class ModalityScores(nn.Module):
    """Scores [B, M] of a generator, one per modality of the translated slice.

    A score is the logit of a share p in (0, 1), so that what explainers call a probability is p itself:

    - `intensity`: p is the mean of the translated modality over the tissue, counted from the darkest (0) to the
      brightest (1). Its gradient at a pixel says how much brighter the whole translated modality becomes if that
      pixel of the input does: what the modality's translation rests on.
    - `change`: p is the mean of |translated − input| over the tissue, in the same units, so what its gradient shows
      makes the translation change more. A generator that changes nothing has no such gradient.

    Takes stacks [B, S * M, H, W], or a dict with them as `image` and with `body` [B, H, W] bool, the tissue. Without
    it, tissue is where any modality of the centre slice is above -1, the value of the background.

    Args:
        generator: stacks [B, S * M, H, W] → centre slices [B, M, H, W] in [-1, 1].
        modalities: their names, in order.
        measure: `intensity` or `change`.

    Raises:
        ConfigError: no such measure.
    """

    def __init__(
        self, generator: nn.Module, *, modalities: Sequence[str] = MODALITIES, measure: str = "intensity"
    ) -> None:
        super().__init__()
        if measure not in MEASURES:
            raise ConfigError(f"measure={measure!r} is unknown; {nearest(measure, MEASURES)}")
        self.generator, self.modalities, self.measure = generator, tuple(modalities), measure

    def forward(self, image: Tensor | Mapping[str, Tensor]) -> Tensor:
        """[B, M] float32."""
        given = {"image": image} if isinstance(image, Tensor) else image
        stack = given["image"]
        own = centre_slice(stack, len(self.modalities))
        body = given["body"] if "body" in given else (own > -1).any(dim=1)
        translated = self.generator(stack).float()
        values = (translated + 1) / 2 if self.measure == "intensity" else (translated - own).abs() / 2
        inside = body[:, None].to(values.dtype)
        share = (values * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp_min(1)
        return torch.logit(share.clamp(LEAST, 1 - LEAST))

    def explainable(self) -> Explainable:
        """One image; its CAMs are of the last map before the decoder."""
        layer = last_map(self.generator)
        layers = {} if layer is None else {"image": f"generator.{layer}"}
        return Explainable(layers=layers, classes=self.modalities, multi_label=True)


def last_map(generator: nn.Module) -> str | None:
    """Dotted name of the module that gives the last map at a quarter of the size; None of a generator unknown to us."""
    parts = dict(generator.named_modules())
    if "global_attention" in parts:
        return "global_attention"
    blocks = cast("nn.ModuleList | None", parts.get("residual_blocks"))
    return None if blocks is None else f"residual_blocks.{len(blocks) - 1}"


def explained_translation(generator: nn.Module, batch: Batch) -> tuple[ModalityScores, Batch]:
    """What explainers are given of one subject's slices.

    Args:
        generator: of the subject's direction.
        batch: all slices of a subject, or some of them.

    Returns:
        The module, and the batch with `image` as it takes it. Annotated lesions are left out: they are no truth about
        what a translation rests on, so maps are not scored by them.
    """
    own: dict[str, Any] = {key: value for key, value in batch.items() if key != "mask"}
    own["image"] = {"image": batch["image"], "body": batch["body"]}
    return ModalityScores(generator), cast(Batch, own)


Array = NDArray[Any]
BEFORE = "generator."
"""What names of a generator's modules start with inside `ModalityScores`."""


def has_attention(generator: nn.Module) -> bool:
    """Whether a network has gates or self-attention; the published baseline has none."""
    return any(isinstance(part, (CBAM, SelfAttention2d)) for part in generator.modules())


def attention_of(generator: nn.Module, stack: Tensor) -> dict[str, Array]:
    """Gates, pooled self-attention and what comes out of the modules that have them.

    Self-attention is the mean over its queries, the sum of which is 1: never more than one matrix [N, N] is there at
    a time, N being the places of the map that attends (52 MB of a slice of 240 x 240, which attends at a quarter).

    Args:
        generator: stacks → centre slices.
        stack: [3M, H, W], one case.

    Returns:
        `<module>_weights`: spatial gates [1, h, w] and channel gates [C] in (0, 1) after their sigmoid, pooled
        self-attention [h, w]; `<module>_output`: the mean over channels [h, w] of what leaves a CBAM or
        self-attention module. In the order in which the modules run; float32.
    """
    parts = dict(generator.named_modules())
    module = ModalityScores(generator)
    subject = ExplainedModel(module, stack[None])
    found: dict[str, Array] = {}
    with keep_unchanged(module), torch.no_grad():
        weights: dict[str, Array] = {}
        if any(isinstance(part, ChannelGate) for part in parts.values()):
            weights |= {
                _own(name): gate[0].cpu().numpy() for name, gate in read_channel_gates(module, stack[None]).items()
            }
        if any(isinstance(part, SpatialGate) for part in parts.values()):
            looks = Gates(gate=None).read_maps(subject)[1]["image"]
            weights |= {_own(look.layer): look.values.float().cpu().numpy() for look in looks}
        if any(isinstance(part, SelfAttention2d) for part in parts.values()):
            looks = SelfAttention(block=None).read_maps(subject)[1]["image"]
            weights |= {_own(look.layer): look.values[0].float().cpu().numpy() for look in looks}
        with _outputs(generator) as outputs:
            generator(stack[None])
    for name in outputs:
        inner = [own for own in weights if own == name or own.startswith(f"{name}.")]
        found |= {f"{own}_weights": weights[own].astype(np.float32) for own in inner}
        found[f"{name}_output"] = outputs[name]
    return found


@contextmanager
def _outputs(generator: nn.Module) -> Iterator[dict[str, Array]]:
    """Module → mean over channels of what it gives, in the order in which they run."""
    found: dict[str, Array] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            found[name] = output[0].mean(dim=0).float().cpu().numpy()

        return hook

    hooks = [
        part.register_forward_hook(keep(name))
        for name, part in generator.named_modules()
        if isinstance(part, (CBAM, SelfAttention2d))
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _own(name: str) -> str:
    """A module's name in the generator."""
    return name.removeprefix(BEFORE)
