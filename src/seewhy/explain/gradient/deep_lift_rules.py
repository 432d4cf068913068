"""DeepLIFT rules: how a difference of a function's value is distributed to the differences of its arguments.

Every rule works on a batch whose first half is the images and whose second half is their references. It returns
the function's true value, with a gradient that is the multiplier: Σ multiplier · (x − x0) = f(x) − f(x0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seewhy.errors import ExplanationError
from seewhy.explain.capture.function_tracer import Call

__all__ = [
    "LINEAR",
    "Rule",
    "Value",
    "apply_maximum",
    "apply_normalization",
    "apply_product",
    "apply_rescale",
    "apply_softmax",
    "repeat_for_both",
    "rule_of",
]

Rule = Callable[[Call], Any]

# Names are written as text, since a formatted list would take one line per name.
ELEMENTWISE = frozenset(
    """
    abs celu clamp clamp_max clamp_min clip cos elu erf exp expm1 gelu hardshrink hardsigmoid hardswish hardtanh
    leaky_relu log log10 log1p log2 logsigmoid mish pow prelu reciprocal relu relu6 rrelu rsqrt selu sigmoid silu sin
    softplus softshrink softsign sqrt square tanh tanhshrink threshold __pow__ __rpow__
    """.split()  # noqa: SIM905
)
BILINEAR = frozenset(("mul", "multiply", "matmul", "bmm", "__mul__", "__rmul__", "__matmul__"))
LINEAR = BILINEAR | frozenset(
    """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d add alpha_dropout avg_pool1d avg_pool2d avg_pool3d
    batch_norm cat chunk clone concat contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d div divide dropout dropout1d dropout2d dropout3d expand expand_as feature_dropout flatten flip
    float gather index_select interpolate linear mean movedim narrow neg pad permute pixel_shuffle pixel_unshuffle
    repeat repeat_interleave reshape roll rsub select split squeeze stack sub subtract sum swapaxes t to transpose
    true_divide type_as unbind unflatten unfold unsqueeze upsample view view_as __getitem__ __radd__ __rsub__
    """.split()  # noqa: SIM905
)


def rule_of(call: Call) -> Rule | None:
    """Return the rule of a call; None if the call is linear in the tensors that depend on the image, or unknown."""
    depends = [_depends(value) for value in (*call.args, *call.kwargs.values())]
    if call.name == "einsum":
        return _einsum if len(call.tensors) == 2 and all(map(_depends, call.tensors)) else None
    if not any(depends) or "out" in call.kwargs:
        return None
    if call.name in ELEMENTWISE:
        alone = sum(isinstance(one, Tensor) for one in call.args) == 1 or call.name == "prelu"
        return _elementwise if depends[0] and alone else None
    if call.name in BILINEAR:
        return _bilinear if sum(depends) == 2 else None
    return RULES.get(call.name)


def _depends(value: object) -> bool:
    """Whether a value depends on the images; everything else is frozen."""
    return isinstance(value, Tensor) and value.requires_grad


def _elementwise(call: Call) -> Tensor:
    return apply_rescale(lambda x: call.function(x, *call.args[1:], **call.kwargs), call.args[0])


def _bilinear(call: Call) -> Tensor:
    return apply_product(call.function, *call.tensors)


def _einsum(call: Call) -> Tensor:
    return apply_product(partial(torch.einsum, call.args[0]), *call.tensors)


def _divide(call: Call) -> Tensor:
    if call.kwargs.get("rounding_mode") is not None:
        return call.function(*call.args, **call.kwargs)
    above, below = call.tensors[:2] if len(call.tensors) == 2 else (call.args[0], call.args[1])
    return _quotient(above, below)


def _divide_reversed(call: Call) -> Tensor:
    return _quotient(call.args[1], call.args[0])


def _quotient(above: Any, below: Any) -> Tensor:
    if not _depends(below):
        return above / below
    inverse = apply_rescale(torch.reciprocal, below)
    return apply_product(torch.mul, above, inverse) if isinstance(above, Tensor) else above * inverse


def _maximum(call: Call) -> Any:
    """Handle `maximum(a, b)`, `max(x, dim)` and `max(a, b)`; `max(x)` mixes samples and has no rule."""
    if len(call.tensors) == 2:
        a, b = call.tensors
        return b + apply_rescale(torch.relu, a - b)
    result = call.function(*call.args, **call.kwargs)
    if isinstance(result, Tensor):
        return result
    x = call.args[0]
    axis: int = call.kwargs["dim"] if "dim" in call.kwargs else call.args[1]
    keep = result.values.ndim == x.ndim
    value = _maximum_over(x, (axis,), result.values if keep else result.values.unsqueeze(axis))
    return torch.return_types.max((value if keep else value.squeeze(axis), result.indices))


def _minimum(call: Call) -> Tensor:
    if len(call.tensors) != 2:
        return call.function(*call.args, **call.kwargs)
    a, b = call.tensors
    return a - apply_rescale(torch.relu, a - b)


def _amax(call: Call) -> Tensor:
    def signature(x: Tensor, dim: Any = (), keepdim: bool = False) -> None: ...

    options = call.options(signature)
    x, axes = options["x"], options["dim"]
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    if not axes:
        return call.function(*call.args, **call.kwargs)
    value = _maximum_over(x, axes, x.detach().amax(dim=axes, keepdim=True))
    return value if options["keepdim"] else value.squeeze(axes)


def _maximum_over(x: Tensor, axes: tuple[int, ...], value: Tensor) -> Tensor:
    """Apply the rule of the maximum over axes, which remain with length 1."""
    axes = tuple(sorted(axis % x.ndim for axis in axes))
    moved = x.movedim(axes, tuple(range(-len(axes), 0))).flatten(x.ndim - len(axes))
    lines = moved.reshape(len(x), -1, moved.shape[-1])
    index = lines.argmax(dim=2, keepdim=True)
    return apply_maximum(lines, lines.detach().gather(2, index), index).reshape(value.shape)


def _pool(call: Call) -> Any:
    """Handle max pooling with windows that may overlap."""
    adaptive = call.name.startswith("adaptive")
    name = call.name.removesuffix("_with_indices")
    options = dict(call.options(getattr(functional, f"{name}_with_indices")))
    return_indices = options.pop("return_indices") or call.name.endswith("_with_indices")
    x = options.pop("input")
    axes = int(name[-2])
    pool = getattr(functional, name)
    size = options.pop("output_size" if adaptive else "kernel_size")
    value, index = pool(x.detach(), size, **options, return_indices=True)
    lead = x.ndim - axes
    lines = [tensor.flatten(lead).reshape(len(x), -1, tensor[(0,) * lead].numel()) for tensor in (x, value, index)]
    result = apply_maximum(*lines).reshape(value.shape)
    return (result, index) if return_indices else result


def _softmax(call: Call) -> Tensor:
    def signature(input: Tensor, dim: int, _stacklevel: int = 3, dtype: Any = None) -> None: ...  # noqa: A002

    options = call.options(signature)
    return apply_softmax(options["input"], options["dim"], log=call.name == "log_softmax")


def _layer_norm(call: Call) -> Tensor:
    options = call.options(functional.layer_norm)
    axes = tuple(range(-len(options["normalized_shape"]), 0))
    normalized = apply_normalization(options["input"], axes, options["eps"])
    return _scale_and_shift(normalized, options["weight"], options["bias"])


def _group_norm(call: Call) -> Tensor:
    options = call.options(functional.group_norm)
    return _normalize_groups(options["input"], options["num_groups"], options)


def _instance_norm(call: Call) -> Tensor:
    options = call.options(functional.instance_norm)
    if not options["use_input_stats"]:
        return call.function(*call.args, **call.kwargs)
    return _normalize_groups(options["input"], options["input"].shape[1], options)


def _normalize_groups(x: Tensor, groups: int, options: Mapping[str, Any]) -> Tensor:
    normalized = apply_normalization(x.reshape(len(x), groups, -1), (2,), options["eps"]).reshape(x.shape)
    shape = (-1, *[1] * (x.ndim - 2))
    weight, bias = (None if options[name] is None else options[name].reshape(shape) for name in ("weight", "bias"))
    return _scale_and_shift(normalized, weight, bias)


def _scale_and_shift(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _batch_norm(call: Call) -> Tensor:
    if call.options(functional.batch_norm)["training"]:
        raise ExplanationError(
            "DeepLIFT: batch normalisation with the statistics of the batch mixes samples; use integrated_gradients, "
            "or a network whose normalisation has running statistics"
        )
    return call.function(*call.args, **call.kwargs)


def _attention(call: Call) -> Tensor:
    def signature(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: Any = None,
        enable_gqa: bool = False,
    ) -> None: ...

    options = call.options(signature)
    query, key, value, mask = (options[name] for name in ("query", "key", "value", "attn_mask"))
    scale = query.shape[-1] ** -0.5 if options["scale"] is None else options["scale"]
    scores = apply_product(torch.matmul, query * scale, key.transpose(-1, -2))
    if options["is_causal"]:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return apply_product(torch.matmul, apply_softmax(scores, -1), value)


RULES: Mapping[str, Rule] = {
    "div": _divide,
    "divide": _divide,
    "true_divide": _divide,
    "__rdiv__": _divide_reversed,
    "__rtruediv__": _divide_reversed,
    "max": _maximum,
    "maximum": _maximum,
    "minimum": _minimum,
    "amax": _amax,
    **{
        f"{adaptive}max_pool{axes}d{suffix}": _pool
        for adaptive in ("", "adaptive_")
        for axes in (1, 2, 3)
        for suffix in ("", "_with_indices")
    },
    "softmax": _softmax,
    "log_softmax": _softmax,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "scaled_dot_product_attention": _attention,
}


NEAR = 1e-5  # below this, a quotient of differences is mostly rounding, and the slope at the midpoint is exact to 1e-10


def apply_rescale(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an elementwise function with the rescale rule (f(x) − f(x0)) / (x − x0) (Shrikumar 2017, equation 10).

    Example:
        >>> import torch
        >>> from seewhy.explain.gradient.deep_lift_rules import apply_rescale
        >>> x = torch.tensor([2.0, -1.0], requires_grad=True)  # an image and its reference
        >>> torch.autograd.grad(apply_rescale(torch.relu, x)[0], x)[0][0]  # (2 - 0) / (2 - -1)
        tensor(0.6667)
    """
    with torch.no_grad():
        value = function(x.detach().clone())
        image, reference = x.detach().chunk(2)
        first, second = value.chunk(2)
        difference = image - reference
        far = difference.abs() > NEAR * image.abs().clamp_min(1)
        multiplier = (first - second) / difference.where(far, 1)
    if not far.all():
        middle = ((image + reference) / 2).requires_grad_()
        with torch.enable_grad():
            slope = torch.autograd.grad(function(middle.clone()).sum(), middle)[0]
        multiplier = multiplier.where(far, slope)
    return _with_value(_multiply(x, multiplier), value)


def apply_product(operation: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Apply a product of two tensors: each gets its own difference times the mean of the other.

    Δ(ab) = Δa (b + b0)/2 + (a + a0)/2 Δb holds exactly, for whatever is linear in each of the two: elementwise and
    matrix products alike (the Shapley value of two players).
    """
    if not (a.requires_grad and b.requires_grad):
        return operation(a, b)
    share = operation(a, _mean(b)) + operation(_mean(a), b)
    with torch.no_grad():
        value = operation(a.detach(), b.detach())
    return _with_value(share, value)


def apply_maximum(x: Tensor, value: Tensor, index: Tensor) -> Tensor:
    """Apply a maximum over positions: its difference goes to the position of the larger of the two maxima.

    There the difference of the argument is at least that of the maxima, so no multiplier is above 1.

    Args:
        x: [2n, C, L].
        value: [2n, C, M], the maxima.
        index: [2n, C, M], their positions in L.
    """
    image, reference = x.detach().chunk(2)
    first, second = value.detach().chunk(2)
    image_index, reference_index = index.chunk(2)
    position = torch.where(first >= second, image_index, reference_index)
    difference = (image - reference).gather(2, position)
    far = difference.abs() > NEAR * first.abs().clamp_min(1)
    multiplier = ((first - second) / difference.where(far, 1)).where(far, 1)
    return _with_value(_multiply(x.gather(2, repeat_for_both(position)), multiplier), value.detach())


def apply_normalization(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """Apply (x − mean) / √(variance + eps) over axes, composed of the rules above."""
    centred = x - x.mean(dim=axes, keepdim=True)
    variance = apply_rescale(torch.square, centred).mean(dim=axes, keepdim=True)
    return apply_product(torch.mul, centred, apply_rescale(torch.rsqrt, variance + eps))


def apply_softmax(x: Tensor, axis: int, *, log: bool = False) -> Tensor:
    """Apply exp(x) / Σ exp(x) or its logarithm, composed of the rules above."""
    shift = torch.maximum(*x.detach().amax(dim=axis, keepdim=True).chunk(2))
    shifted = x - repeat_for_both(shift)  # the same number in both halves, otherwise it would depend on x
    raised = apply_rescale(torch.exp, shifted)
    total = raised.sum(dim=axis, keepdim=True)
    if log:
        return shifted - apply_rescale(torch.log, total)
    return apply_product(torch.mul, raised, apply_rescale(torch.reciprocal, total))


def repeat_for_both(half: Tensor) -> Tensor:
    """Repeat [n, ...] for images and references."""
    return torch.cat([half, half])


def _mean(x: Tensor) -> Tensor:
    image, reference = x.detach().chunk(2)
    return repeat_for_both((image + reference) / 2)


def _multiply(x: Tensor, multiplier: Tensor) -> Tensor:
    """Multiply a tensor [2n, ...] by a factor [n, ...] that both halves share and that is stored once."""
    halves = x.reshape(2, len(multiplier), *x.shape[1:])
    return (halves * multiplier).reshape(x.shape)


def _with_value(share: Tensor, value: Tensor) -> Tensor:
    return Value.apply(share, lambda: value)


class Value(torch.autograd.Function):
    """Return a value with the gradient of another tensor."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, value: Callable[[], Tensor]) -> Tensor:
        """Return the value; it is passed as a function, since a tensor that is passed through would become a view."""
        return value()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient to `share`."""
        return gradient, None
