"""Explanation of translation generators: a score per modality for explainers, and their gates and self-attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.batch import MODALITIES, Batch
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.attention.attention import SelfAttention
from seewhy.explain.attention.gates import Gates, read_channel_gates
from seewhy.explain.capture.attention import AttentionBlock
from seewhy.explain.explained_model import Explainable, ExplainedModel
from seewhy.nets.generators.base import centre_slice
from seewhy.nets.generators.blocks import CBAM, ChannelGate, SelfAttention2d, SpatialGate
from seewhy.nets.generators.curve import CurveGenerator25D
from seewhy.options import check_choice

__all__ = ["ModalityScores", "has_attention", "record_attention", "to_modality_scores"]

MEASURES = ("intensity", "change")
MEANINGS = {"intensity": "mean intensity of the translated", "change": "mean change of the translated"}
"""Meaning of a score, completed by the name of its modality."""
LEAST = 1e-4
"""Smallest distance of a share from 0 and 1, where its logit would be infinite."""


class ModalityScores(nn.Module):
    """Scores [B, M] of a generator, one per modality of the translated slice.

    A score is the logit of a share p in (0, 1), so that what explainers call a probability is p itself:

    - `intensity`: p is the mean of the translated modality over the tissue, counted from the darkest (0) to the
      brightest (1). Its gradient at a pixel is the increase of the whole translated modality per increase of that
      pixel of the input, and so shows which pixels the translation depends on.
    - `change`: p is the mean of |translated − input| over the tissue, in the same units, so its gradient shows which
      pixels make the translation change more. A generator that changes nothing has no such gradient.

    The input are stacks [B, S * M, H, W], or a dict with `image` (the stacks) and `body` [B, H, W] bool, the tissue.
    Without `body`, tissue is where any modality of the centre slice is above -1, the value of the background.

    Args:
        generator: stacks [B, S * M, H, W] → centre slices [B, M, H, W] in [-1, 1].
        modalities: names of the modalities, in order.
        measure: `intensity` or `change`.

    Raises:
        ConfigError: unknown measure.
    """

    def __init__(
        self, generator: nn.Module, *, modalities: Sequence[str] = MODALITIES, measure: str = "intensity"
    ) -> None:
        super().__init__()
        check_choice(measure, MEASURES, "measure")
        self.generator, self.modalities, self.measure = generator, tuple(modalities), measure

    def forward(self, image: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Scores [B, M] float32."""
        given = {"image": image} if isinstance(image, Tensor) else image
        stack = given["image"]
        source = centre_slice(stack, len(self.modalities))
        body = given["body"] if "body" in given else (source > -1).any(dim=1)
        translated = self.generator(stack).float()
        values = (translated + 1) / 2 if self.measure == "intensity" else (translated - source).abs() / 2
        inside = body[:, None].to(values.dtype)
        share = (values * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp_min(1)
        return torch.logit(share.clamp(LEAST, 1 - LEAST))

    def explainable(self) -> Explainable:
        """One image; its CAMs use the last feature map before the decoder."""
        layer = find_last_map(self.generator)
        layers = {} if layer is None else {"image": f"generator.{layer}"}
        count = len(self.modalities)
        return Explainable(
            layers=layers,
            classes=self.modalities,
            multi_label=True,
            measures=MEANINGS[self.measure],
            shown=tuple(range(count, 2 * count)),
            shown_as=f"centre slice, mean of {', '.join(self.modalities)}",
        )


def find_last_map(generator: nn.Module) -> str | None:
    """Dotted name of the module with the last feature map before the output; None for unknown generators."""
    parts = dict(generator.named_modules())
    if isinstance(generator, CurveGenerator25D):
        return f"encoder.{len(generator.encoder) - 1}"
    if "global_attention" in parts:
        return "global_attention"
    blocks = cast("nn.ModuleList | None", parts.get("residual_blocks"))
    return None if blocks is None else f"residual_blocks.{len(blocks) - 1}"


def to_modality_scores(generator: nn.Module, batch: Batch) -> tuple[ModalityScores, Batch]:
    """Wrap a generator and some slices of a subject for explainers.

    Args:
        generator: generator of the subject's direction.
        batch: all slices of a subject, or some of them.

    Returns:
        The module, and the batch with `image` as the module takes it. Annotated lesions are left out, because they
        do not show what a translation depends on, so maps must not be scored by them.
    """
    part: dict[str, Any] = {key: value for key, value in batch.items() if key != "mask"}
    part["image"] = {"image": batch["image"], "body": batch["body"]}
    return ModalityScores(generator), cast(Batch, part)


Array = NDArray[Any]
BEFORE = "generator."
"""Prefix of the names of a generator's modules in `ModalityScores`."""


def has_attention(generator: nn.Module) -> bool:
    """Whether a network has gates or self-attention; the published baseline has neither."""
    return any(isinstance(part, (CBAM, SelfAttention2d)) for part in generator.modules())


def record_attention(generator: nn.Module, stack: Tensor, *, full: bool = False) -> dict[str, Array]:
    """Record gates, pooled self-attention and the outputs of their modules for one case.

    Self-attention is averaged over its queries and sums to 1. Only one matrix [N, N] is in memory at a time, N being
    the positions of the attended feature map (52 MB for a slice of 240 x 240, which is attended at a quarter).

    Args:
        generator: stacks → centre slices.
        stack: [3M, H, W], one case.
        full: also keep the whole matrices of self-attention.

    Returns:
        `<module>_weights`: spatial gates [1, h, w] and channel gates [C] in (0, 1) after their sigmoid, pooled
        self-attention [h, w]; `<module>_output`: the output of a CBAM or self-attention module,
        averaged over channels [h, w]. In the order in which the modules run; float32. With `full`, `<module>_matrix`
        [heads, N, N] float16, each row the weights of a query, which sum to 1.
    """
    parts = dict(generator.named_modules())
    module = ModalityScores(generator)
    subject = ExplainedModel(module, stack[None])
    result: dict[str, Array] = {}
    matrices: dict[str, Array] = {}
    with keep_unchanged(module), torch.no_grad():
        weights: dict[str, Array] = {}
        if any(isinstance(part, ChannelGate) for part in parts.values()):
            weights |= {
                name.removeprefix(BEFORE): gate[0].cpu().numpy()
                for name, gate in read_channel_gates(module, stack[None]).items()
            }
        if any(isinstance(part, SpatialGate) for part in parts.values()):
            looks = Gates(gate=None).read_maps(subject)[1]["image"]
            weights |= {look.layer.removeprefix(BEFORE): look.values.float().cpu().numpy() for look in looks}
        if any(isinstance(part, SelfAttention2d) for part in parts.values()):
            looks = SelfAttention(block=None).read_maps(subject)[1]["image"]
            weights |= {look.layer.removeprefix(BEFORE): look.values[0].float().cpu().numpy() for look in looks}
            if full:
                matrices = _record_matrices(subject)
        with _record_outputs(generator) as outputs:
            generator(stack[None])
    for name in outputs:
        inner = [key for key in weights if key == name or key.startswith(f"{name}.")]
        result |= {f"{key}_weights": weights[key].astype(np.float32) for key in inner}
        result[f"{name}_output"] = outputs[name]
        if name in matrices:
            result[f"{name}_matrix"] = matrices[name]
    return result


def _record_matrices(subject: ExplainedModel) -> dict[str, Array]:
    """Module → matrix of self-attention [heads, N, N] float16 of one case."""
    found: dict[str, Array] = {}

    def keep(block: AttentionBlock) -> None:
        found[block.name.removeprefix(BEFORE)] = block.weights[0].half().cpu().numpy()

    SelfAttention(block=None).capture(subject, keep)
    return found


@contextmanager
def _record_outputs(generator: nn.Module) -> Iterator[dict[str, Array]]:
    """Module → mean of its output over channels, in the order of execution."""
    outputs: dict[str, Array] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            outputs[name] = output[0].mean(dim=0).float().cpu().numpy()

        return hook

    hooks = [
        part.register_forward_hook(keep(name))
        for name, part in generator.named_modules()
        if isinstance(part, (CBAM, SelfAttention2d))
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
