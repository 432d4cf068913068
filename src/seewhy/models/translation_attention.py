"""What the attention of a translating network does to one slice: gates as they multiply, self-attention as it looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.explain.gates import Gates, channel_gates
from seewhy.explain.self_attention import SelfAttention
from seewhy.explain.subject import Subject
from seewhy.explain.undisturbed import undisturbed
from seewhy.models.translation_explanation import ModalityScores
from seewhy.nets.cbam import CBAM, ChannelGate, SpatialGate
from seewhy.nets.self_attention import SelfAttention2d

__all__ = ["attention_of", "has_attention"]

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
    subject = Subject(module, stack[None])
    found: dict[str, Array] = {}
    with undisturbed(module), torch.no_grad():
        weights: dict[str, Array] = {}
        if any(isinstance(part, ChannelGate) for part in parts.values()):
            weights |= {_own(name): gate[0].cpu().numpy() for name, gate in channel_gates(module, stack[None]).items()}
        if any(isinstance(part, SpatialGate) for part in parts.values()):
            looks = Gates(gate=None).look(subject)[1]["image"]
            weights |= {_own(look.layer): look.coarse.float().cpu().numpy() for look in looks}
        if any(isinstance(part, SelfAttention2d) for part in parts.values()):
            looks = SelfAttention(block=None).look(subject)[1]["image"]
            weights |= {_own(look.layer): look.coarse[0].float().cpu().numpy() for look in looks}
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
