"""Layer-wise relevance propagation: the score is handed back layer by layer, to what each output was added up from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from seewhy.errors import ConfigError, ExplanationError, nearest
from seewhy.explain.base import Attribution
from seewhy.explain.capture.function_tracer import Call
from seewhy.explain.capture.layers import named_parts
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, Images, sum_channels
from seewhy.explain.gradient.deep_lift_rules import BILINEAR, ELEMENTWISE, LINEAR, Value
from seewhy.explain.maps import compute_completeness_error
from seewhy.option_types import MemorySize, NonNegativeFloat, PositiveFloat

__all__ = ["LRP", "RelevanceMode"]

Rule: TypeAlias = Literal["epsilon", "gamma", "z_plus", "composite"]
RULES = ("epsilon", "gamma", "z_plus", "composite")
WEIGHTED = ("linear", *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)))
"""Functions with a weight and a bias."""


@dataclass(frozen=True)
class Linear:
    """A function that is linear in its input: `function(x, weight)` + bias, the bias in the shape of the output."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    function: Callable[[Tensor, Tensor], Tensor]
    rule: Rule
    merges: bool = False
    """Whether the first axis of the weight are the channels of the output, so that a factor can be merged into it."""


class RelevanceMode(TorchFunctionMode):
    """Mode in which input times gradient of a score is the relevance of the input.

    Relevance that biases and ε take is the gradient by `absorbed`.

    Args:
        rows: number of samples of the batch.
        rule: see `LRP`.
        gamma: weight of what agrees with an output's sign, in the rule γ.
        eps: ε as a share of the root mean square of a layer's output in a sample.
        device: of the batch.

    Attributes:
        absorbed: [rows] ones, for their gradient.
        unknown: names of called functions that are neither linear nor have a rule.
    """

    def __init__(self, rows: int, *, rule: Rule, gamma: float, eps: float, device: torch.device) -> None:
        super().__init__()
        self.rule, self.gamma, self.eps = rule, gamma, eps
        self.absorbed = torch.ones(rows, device=device, requires_grad=True)
        self.unknown: set[str] = set()
        self._made = WeakTensorKeyDictionary()  # output → the layer that made it

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply the rule of a function if it has one; the mode is off inside."""
        call = Call(func, args, dict(kwargs or {}))
        depends = [one for one in call.tensors if one.requires_grad and one is not self.absorbed]
        if not torch.is_grad_enabled() or not depends:
            return func(*args, **(kwargs or {}))
        output = self._apply_rule(call, depends)
        if output is not None:
            if call.in_place:
                self._made.pop(call.tensors[0], None)
                return call.tensors[0].copy_(output)
            return output
        if call.composed and call.name not in LINEAR and "max_pool" not in call.name:
            with self:
                return call.run_composed()
        result = func(*args, **(kwargs or {}))
        known = call.name in LINEAR or "max_pool" in call.name or call.name.startswith("__")
        if isinstance(result, Tensor) and result.requires_grad and not known:
            self.unknown.add(call.name)
        return result

    def _apply_rule(self, call: Call, depends: list[Tensor]) -> Tensor | None:
        """Return the output of a function with a rule, else None."""
        if call.name in WEIGHTED:
            return self._apply_linear(_read_weighted(call, self.rule))
        if call.name == "batch_norm":
            return self._apply_linear(_read_batch_norm(call, self._made, self.rule))
        if call.name in ELEMENTWISE and len(depends) == 1 and depends[0] is call.args[0]:
            x = call.args[0]
            value = call.function(*call.args, **call.kwargs).detach()
            return self._with_value(x * (value / x.where(x != 0, 1)).detach(), value)
        if call.name in BILINEAR and len(depends) == 2:
            a, b = depends
            return (call.function(a, b.detach()) + call.function(a.detach(), b)) / 2
        return None

    def _apply_linear(self, layer: Linear) -> Tensor:
        """Apply a layer whose output's relevance goes to the parts that its rule counts, in proportion."""
        x, weight = layer.x, layer.weight
        product = layer.function(x, weight)
        bias = torch.zeros_like(product) if layer.bias is None else layer.bias.expand_as(product)
        value = (product + bias).detach()
        if layer.rule == "epsilon":
            flat = value.flatten(1)
            size = self.eps * flat.square().mean(dim=1).sqrt().reshape(-1, *[1] * (value.ndim - 1))
            whole = value + size * torch.where(value < 0, -1.0, 1.0)
            counted = product
        else:
            above, below = (_signed_part(layer, sign) for sign in (1, -1))
            if layer.rule == "z_plus":
                counted, whole = above, above.detach() + bias.clamp_min(0)
            else:
                agreeing = torch.where(value < 0, below, above)
                counted = product + self.gamma * agreeing
                fitting = torch.where(value < 0, bias.clamp_max(0), bias.clamp_min(0))
                whole = value + self.gamma * (agreeing.detach() + fitting)
        share = torch.where(whole == 0, 0.0, value / whole.where(whole != 0, 1))
        output = self._with_value(counted * share, value)
        self._made[output] = layer
        return output

    def _with_value(self, share: Tensor, value: Tensor) -> Tensor:
        """Return a value whose gradient goes to `share`, and for the rest of its relevance to `absorbed`."""
        each = self.absorbed.repeat_interleave(max(len(value) // len(self.absorbed), 1))
        rest = (value - share.detach()) * each.reshape(-1, *[1] * (value.ndim - 1))
        return Value.apply(share + rest, lambda: value)


class LRP(GradientExplainer):
    """Relevance propagated from the score to the input (Bach 2015), by the rules ε, γ or z⁺ (Montavon 2019, §10.2).

    Each output's relevance goes to its inputs in proportion to what they added to it: `epsilon` counts all, with a
    stabiliser; `gamma` counts what agrees with the output's sign more; `z_plus` counts what is positive alone;
    `composite` is z⁺ for convolutions and ε for fully connected layers. Batch normalisation is merged into the
    convolution before it, elementwise functions pass relevance on, and products give each factor half. Biases and ε
    take their part, so that the map and this part sum to the score exactly; where they do not (softmax, layer
    normalisation), an error is raised instead of returning a wrong map. Without biases the map itself sums to the
    score.

    Args:
        rule: `epsilon`, `gamma`, `z_plus` or `composite`.
        gamma: weight of what agrees with the output's sign.
        eps: ε as a share of the root mean square of a layer's output.
        tolerance: largest share of the score that may be lost.
        memory_budget: memory limit of the rows of one chunk.

    Raises:
        ConfigError: an option out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import LRP
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2, bias=False))
        >>> maps = LRP(rule="gamma")(net, torch.rand(2, 1, 4, 4), target=1)
        >>> torch.allclose(maps.maps["image"].sum(dim=(1, 2)), maps.scores[:, 1], atol=1e-5)
        True
    """

    method = "lrp"

    def __init__(
        self,
        *,
        rule: Rule = "composite",
        gamma: NonNegativeFloat = 0.25,
        eps: NonNegativeFloat = 0.01,
        tolerance: PositiveFloat = 0.05,
        memory_budget: MemorySize = "1GiB",
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        if rule not in RULES:
            raise ConfigError(f"lrp: rule={rule!r} is unknown; {nearest(str(rule), RULES)}")
        self.rule, self.gamma, self.eps, self.tolerance = rule, gamma, eps, tolerance

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`.

        Raises:
            ExplanationError: more of the score is lost than the tolerance.
        """
        subject.check_not_scripted(named_parts(subject.module))
        return self._attribute_in_chunks(
            subject,
            targets,
            partial(self._explain_rows, subject),
            "biases and ε have a part of the score that no map shows",
        )

    def _explain_rows(
        self, subject: ExplainedModel, rows: Tensor, targets: Sequence[Tensor]
    ) -> list[tuple[Images, Tensor]]:
        """Return maps, and the share of the score that is lost, of some samples for each target."""
        images = {name: image[rows].requires_grad_() for name, image in subject.inputs.items()}
        mode = RelevanceMode(len(rows), rule=self.rule, gamma=self.gamma, eps=self.eps, device=rows.device)
        with mode:
            scores = subject.scores(images, rows=rows)
        leaves = [*images.values(), mode.absorbed]
        results = []
        for position, target in enumerate(targets):
            score = subject.target_scores(scores, target)
            last = position == len(targets) - 1
            slopes = torch.autograd.grad(score.sum(), leaves, retain_graph=not last, allow_unused=True)
            maps = {
                name: sum_channels((image if slope is None else slope) * image.detach() * (slope is not None))
                for (name, image), slope in zip(images.items(), slopes, strict=False)
            }
            absorbed = torch.zeros_like(score) if slopes[-1] is None else slopes[-1]
            error = compute_completeness_error(maps, score.detach(), absorbed)
            if not bool((error <= self.tolerance).all()):
                cause = f"without a rule: {', '.join(sorted(mode.unknown))}" if mode.unknown else "constants are added"
                raise ExplanationError(
                    f"LRP loses {float(error.max()):.0%} of the score of {type(subject.module).__name__} (tolerance "
                    f"{self.tolerance:.0%}; {cause}). Its map would be wrong; use integrated_gradients or deep_lift"
                )
            results.append(({name: one.detach() for name, one in maps.items()}, error))
        return results


def _signed_part(layer: Linear, sign: int) -> Tensor:
    """Sum the products of input and weight that have a sign."""
    above, below = layer.x.relu(), -(-layer.x).relu()
    positive, negative = layer.weight.clamp_min(0), layer.weight.clamp_max(0)
    if sign > 0:
        return layer.function(above, positive) + layer.function(below, negative)
    return layer.function(above, negative) + layer.function(below, positive)


def _read_weighted(call: Call, rule: Rule) -> Linear:
    """Read a convolution or a fully connected layer."""
    names = ("input", "weight", "bias")
    given = dict(zip(names, call.args, strict=False)) | {
        name: call.kwargs[name] for name in names if name in call.kwargs
    }
    rest, kwargs = call.args[3:], {name: one for name, one in call.kwargs.items() if name not in names}
    bias, weight = given.get("bias"), given["weight"]
    if call.name == "linear":
        function: Callable[[Tensor, Tensor], Tensor] = functional.linear
    else:
        bias = None if bias is None else bias.reshape(-1, *[1] * (weight.ndim - 2))

        def function(x: Tensor, weight: Tensor) -> Tensor:
            result: Tensor = call.function(x, weight, None, *rest, **kwargs)
            return result

    own: Rule = rule if rule != "composite" else "epsilon" if call.name == "linear" else "z_plus"
    return Linear(given["input"], weight, bias, function, own, merges="transpose" not in call.name)


def _read_batch_norm(call: Call, made: WeakTensorKeyDictionary, rule: Rule) -> Linear:
    """Read a batch normalisation, merged with the convolution or fully connected layer that made its input."""
    options = call.options(functional.batch_norm)
    if options["training"]:
        raise ExplanationError("LRP: batch normalisation with the statistics of the batch mixes samples")
    x: Tensor = options["input"]
    scale = (options["running_var"] + options["eps"]).rsqrt()
    scale = scale if options["weight"] is None else scale * options["weight"]
    shift = -options["running_mean"] * scale
    shift = shift if options["bias"] is None else shift + options["bias"]
    shape = (-1, *[1] * (x.ndim - 2))
    before: Linear | None = made.get(x)
    if before is not None and before.merges:
        weight = before.weight * scale.reshape(-1, *[1] * (before.weight.ndim - 1))
        bias = shift.reshape(shape) + (0 if before.bias is None else before.bias * scale.reshape(shape))
        return Linear(before.x, weight, bias, before.function, before.rule)
    own: Rule = "epsilon" if rule == "composite" else rule
    return Linear(x, scale.reshape(shape), shift.reshape(shape), torch.mul, own)
