"""Capture the attention matrices of any module while it computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.capture.function_tracer import Call, FunctionTracer, Modules, Run
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["AttentionBlock", "BlockHandler", "capture_attention"]


@dataclass(frozen=True)
class AttentionBlock:
    """Attention matrix of one block in one run.

    Attributes:
        weights: [n, heads, N, M], weights of each query over the keys, rows sum to 1; n is B, or a multiple of B if
            the module processes each slice or window alone.
        run: the run of the submodule that computed it.
        headless: whether the matrix had no axis of heads, as in convolutional networks.
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
    handle: BlockHandler,
    *,
    default: Sequence[str] | None = None,
    graph: bool = False,
) -> Tensor:
    """Run the module once and pass each attention matrix to `handle` as it is computed.

    Captures `scaled_dot_product_attention` of [n, heads, N, d] or [n, N, d] (computed step by step, without dropout),
    `softmax` over the last axis of [n, heads, N, M] or [n, N, M], and `nn.MultiheadAttention`. The output of the
    module does not change. A matrix that `handle` does not store is freed.

    Args:
        subject: module and batch.
        modules: submodules to search, see `seewhy.explain.capture.function_tracer.Modules`.
        handle: called with each block, in the order in which they run.
        default: submodules to search if `modules` is None; None is the attention in the module's `explainable()`,
            empty is the whole module.
        graph: let the scores depend on the matrices; the graph starts at the first block.

    Returns:
        Class scores [B, K].

    Raises:
        ConfigError: no attention in the module, or in one of the named submodules.
    """
    tracer = _make_tracer(
        subject, modules, handle, default=subject.about.attention if default is None else default, graph=graph
    )
    scores = tracer.scores()
    _check(tracer, subject)
    tracer.check_runs()
    return scores


def _make_tracer(
    subject: ExplainedModel, modules: Modules, handle: BlockHandler, *, default: Sequence[str], graph: bool
) -> FunctionTracer:
    def record(weights: Tensor, run: Run) -> Tensor:
        heads = _count_heads(weights, run, subject.batch)
        block = weights if weights.ndim == 4 else weights.unflatten(0, (-1, heads))
        if graph and not block.requires_grad:
            block = block.detach().requires_grad_()
        tracer.record(run)
        handle(AttentionBlock(block, run, headless=weights.ndim == 3 and heads == 1))
        return block.reshape(weights.shape)

    def product(run: Run, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        call = Call(func, args, kwargs)
        if call.tensors[0].ndim not in (3, 4):
            return func(*args, **kwargs)
        return _attend(call, lambda weights: record(weights, run))

    def softmax(run: Run, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        weights = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if weights.ndim not in (3, 4) or dim not in (-1, weights.ndim - 1) or weights.shape[-1] < 2:
            return weights
        return record(weights, run).clone()  # the next function may work in place

    handlers = {"scaled_dot_product_attention": product, "softmax": softmax}
    tracer = FunctionTracer(subject, modules, default=default, handlers=handlers)
    return tracer


def _attend(call: Call, record: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute softmax(q kᵀ · scale + mask) v, the softmax in full precision; `record` gets the matrix."""
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
    return record(logits.float().softmax(dim=-1)).to(value.dtype) @ value


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
    """Arguments of `scaled_dot_product_attention`, a built-in function without a signature."""


@runtime_checkable
class _CountsHeads(Protocol):
    """Attention modules of timm, torchvision and torch."""

    num_heads: int


def _count_heads(weights: Tensor, run: Run, batch: int) -> int:
    """Return the number of heads in the first axis of [n · heads, N, M]; 1 if there are no heads."""
    numbers = [part.num_heads for part in reversed(run.around) if isinstance(part, _CountsHeads)]
    heads = next((number for number in numbers if isinstance(number, int)), 1)  # some networks list those of stages
    return heads if len(weights) % (heads * batch) == 0 else 1


def _check(tracer: FunctionTracer, subject: ExplainedModel) -> None:
    """Raise an error if there was no attention, or none in one of the named modules."""
    empty, kind = tracer.empty_roots(), type(subject.module).__name__
    if not empty:
        return
    names: list[str] = []
    with torch.no_grad():
        _make_tracer(subject, None, lambda block: names.append(block.name), default=(), graph=False).scores()
    if not names:
        raise ConfigError(
            f"no attention in {kind}: neither scaled_dot_product_attention nor a softmax over the last axis of "
            "[B, heads, N, M]; methods that need no attention: grad_cam, layer_cam, integrated_gradients, occlusion"
        )
    raise ConfigError("; ".join(f"{kind}: no attention in {name!r}; {nearest(name, names)}" for name in empty))
