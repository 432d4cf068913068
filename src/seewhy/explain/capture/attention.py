"""The attention matrices of any module, as it computes them, with a graph where one is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.capture.function_tracer import Call, FunctionTracer, Modules, Run
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["AttentionBlock", "BlockHandler", "capture_attention"]


@dataclass(frozen=True)
class AttentionBlock:
    """What one attention block gave in one run.

    Attributes:
        weights: [n, heads, N, M], each query's weights over keys, rows sum to 1; n is B, or a multiple of it where
            the module sees slices or windows singly.
        run: where it was computed.
        headless: whether it came without an axis of heads, as convolutional networks compute it.
    """

    weights: Tensor
    run: Run
    headless: bool = False

    @property
    def name(self) -> str:
        """Dotted name of the attention module."""
        return self.run.name


BlockHandler: TypeAlias = "Callable[[AttentionBlock], None]"


def capture_attention(
    subject: ExplainedModel,
    modules: Modules,
    see: BlockHandler,
    *,
    told: Sequence[str] | None = None,
    graph: bool = False,
) -> Tensor:
    """Run the module once and show each attention matrix as it is computed; what `see` does not keep is freed.

    Seen are `scaled_dot_product_attention` of [n, heads, N, d] or [n, N, d] (then computed step by step, without
    dropout, which has no place in an explanation), `softmax` over the last axis of [n, heads, N, M] or [n, N, M], and
    `nn.MultiheadAttention`. The module's output stays what it is.

    Args:
        subject: module and batch.
        modules: where to look, see `seewhy.explain.capture.function_tracer.Modules`.
        see: is shown each block, in the order in which they run.
        told: where to look if `modules` is None; None is what the module says of itself, empty is everywhere.
        graph: let scores depend on what is shown; the graph starts at the first block.

    Returns:
        Class scores [B, K].

    Raises:
        ConfigError: there is no attention, or none in one of the named modules.
    """
    watch = _watch(subject, modules, see, told=subject.about.attention if told is None else told, graph=graph)
    scores = watch.scores()
    _check(watch, subject)
    watch.check_runs()
    return scores


def _watch(
    subject: ExplainedModel, modules: Modules, see: BlockHandler, *, told: Sequence[str], graph: bool
) -> FunctionTracer:
    def shown(weights: Tensor, run: Run) -> Tensor:
        heads = _heads(weights, run, subject.batch)
        kept = weights if weights.ndim == 4 else weights.unflatten(0, (-1, heads))
        if graph and not kept.requires_grad:
            kept = kept.detach().requires_grad_()
        watch.met(run)
        see(AttentionBlock(kept, run, headless=weights.ndim == 3 and heads == 1))
        return kept.reshape(weights.shape)

    def product(run: Run, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        call = Call(func, args, kwargs)
        if call.tensors[0].ndim not in (3, 4):
            return func(*args, **kwargs)
        return _attend(call, lambda weights: shown(weights, run))

    def softmax(run: Run, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        weights = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if weights.ndim not in (3, 4) or dim not in (-1, weights.ndim - 1) or weights.shape[-1] < 2:
            return weights
        return shown(weights, run).clone()  # what follows may work in place

    meet = {"scaled_dot_product_attention": product, "softmax": softmax}
    watch = FunctionTracer(subject, modules, told=told, meet=meet)
    return watch


def _attend(call: Call, shown: Callable[[Tensor], Tensor]) -> Tensor:
    """softmax(q kᵀ · scale + mask) v, the softmax in full precision, with the matrix shown on the way."""
    given = call.options(_signature)
    query, key, value, mask = (given[name] for name in ("query", "key", "value", "attn_mask"))
    if given["enable_gqa"]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], dim=-3)
    scale = 1 / math.sqrt(query.shape[-1]) if given["scale"] is None else given["scale"]
    logits = (query * scale) @ key.transpose(-2, -1)
    if given["is_causal"]:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    return shown(logits.float().softmax(dim=-1)).to(value.dtype) @ value


def _signature(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """The arguments of `scaled_dot_product_attention`, which is built in and has no signature to ask for."""


def _heads(weights: Tensor, run: Run, batch: int) -> int:
    """How many heads share the first axis of [n · heads, N, M] with the samples; 1 where there are no heads."""
    numbers = [getattr(part, "num_heads", None) for part in reversed(run.around)]
    heads = next((number for number in numbers if isinstance(number, int)), 1)
    return heads if len(weights) % (heads * batch) == 0 else 1


def _check(watch: FunctionTracer, subject: ExplainedModel) -> None:
    """Refuse where nothing was seen, or nothing in one of the named modules."""
    silent, kind = watch.silent(), type(subject.module).__name__
    if not silent:
        return
    shown: list[str] = []
    with torch.no_grad():
        _watch(subject, None, lambda block: shown.append(block.name), told=(), graph=False).scores()
    if not shown:
        raise ConfigError(
            f"found no attention in {kind}: neither scaled_dot_product_attention nor a softmax over the last axis "
            "of [B, heads, N, M]; methods that need none: grad_cam, layer_cam, integrated_gradients, occlusion"
        )
    raise ConfigError("; ".join(f"{kind}: {name!r} showed no attention; {nearest(name, shown)}" for name in silent))
