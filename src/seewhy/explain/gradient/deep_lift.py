"""DeepLIFT.

A mode in which a forward pass of images beside their references has DeepLIFT's multipliers for gradients.

Functions are met where they are called: modules that are used twice, functions without a module and methods of
tensors are alike, in place or not, and nothing is patched that would have to be mended afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.capture.function_tracer import Call
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, Images, sum_channels
from seewhy.explain.gradient.deep_lift_rules import LINEAR, Value, rule_of
from seewhy.explain.maps import compute_completeness_error

__all__ = ["DeepLift", "RescaleMode"]


class RescaleMode(TorchFunctionMode):
    """Inside, what follows from a batch of images and references gets multipliers for gradients.

    Args:
        rows: how many rows the batch has, an even number: images first, then their references in the same order.

    Attributes:
        unknown: names of functions without a rule that were met; they kept their slopes at the image, which is right
            where they are linear.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.unknown: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let a function follow its rule, if it has one; in here the mode is off."""
        call = Call(func, args, dict(kwargs or {}))
        rule = rule_of(call) if torch.is_grad_enabled() else None
        if rule is not None:
            self._check(call)
            output = rule(call)
            return call.tensors[0].copy_(output) if call.in_place else output
        if call.composed and call.name not in LINEAR:
            with self:
                return call.opened()
        output = func(*args, **(kwargs or {}))
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if isinstance(first, Tensor) and first.requires_grad and call.name not in LINEAR:
            self.unknown.add(call.name)
        return output

    def _check(self, call: Call) -> None:
        wrong = [one for one in call.tensors if one.requires_grad and (not one.ndim or len(one) % self.rows)]
        if wrong:
            raise ExplanationError(
                f"DeepLIFT met {call.name!r} on {tuple(wrong[0].shape)}, whose first axis is not the batch of "
                f"{self.rows // 2} images and as many references; use integrated_gradients instead"
            )


class DeepLift(GradientExplainer):
    """Multipliers times x − x0, by the rescale rule (Shrikumar 2017, equations 3 and 10), or a refusal.

    Beside the paper's elementwise functions and max pooling there are rules for products of activations (gates of
    squeeze-and-excitation, attention), quotients, maxima, softmax and normalisation by a sample's own statistics.
    Where a network does something else that is not linear, the sum of the map misses the difference of the scores,
    and no map is given.

    Args:
        baseline: x0.
        tolerance: the largest completeness error that is let pass, as a share.
        memory_budget: what the rows of one chunk may take.

    Raises:
        ConfigError: an option out of its range.
    """

    method = "deep_lift"

    def __init__(
        self, *, baseline: Baseline = "minimum", tolerance: float = 0.05, memory_budget: int | str = "1GiB"
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        if tolerance <= 0:
            raise ConfigError(f"tolerance={tolerance}; expected a share above 0, e.g. 0.05")
        self.start, self.tolerance = check_baseline(baseline), tolerance
        self.baseline = describe_baseline(baseline)

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`.

        Raises:
            ExplanationError: a completeness error beyond the tolerance, or a network that mixes samples.
        """
        everyone = torch.arange(subject.batch, device=scores.device)
        chunk = self.budget.rows(
            subject,
            "deep_lift",
            lambda: self._multiplied(subject, everyone[:1], [target[:1] for target in targets[:1]]),
        )
        parts = [
            self._multiplied(subject, rows, [target[rows] for target in targets]) for rows in everyone.split(chunk)
        ]
        found = []
        for position in range(len(targets)):
            maps, errors = zip(*(part[position] for part in parts), strict=True)
            found.append(
                Attribution(
                    maps={name: torch.cat([one[name] for one in maps]) for name in subject.inputs},
                    completeness=torch.cat(errors),
                )
            )
        return found

    def _multiplied(
        self, subject: ExplainedModel, rows: Tensor, targets: Sequence[Tensor]
    ) -> list[tuple[Images, Tensor]]:
        """Maps and completeness errors of some samples for each target."""
        images = {name: image[rows] for name, image in subject.inputs.items()}
        starts = {name: make_baseline(image, self.start) for name, image in images.items()}
        pairs = {name: torch.cat([image, starts[name]]).requires_grad_() for name, image in images.items()}
        mode = RescaleMode(2 * len(rows))
        with mode:
            scores = subject.scores(pairs, rows=torch.cat([rows, rows]))
        ours, theirs = scores.chunk(2)
        found = []
        for position, target in enumerate(targets):
            score = subject.target_scores(ours, target)
            last = position == len(targets) - 1
            ones = torch.autograd.grad(score.sum(), list(pairs.values()), retain_graph=not last, allow_unused=True)
            maps = {
                name: sum_channels((0 if one is None else one[: len(rows)]) * (image - starts[name]))
                for (name, image), one in zip(images.items(), ones, strict=True)
            }
            error = compute_completeness_error(maps, score.detach(), subject.target_scores(theirs, target).detach())
            self._check(error, subject, mode, scores)
            found.append((maps, error))
        return found

    def _check(self, error: Tensor, subject: ExplainedModel, mode: RescaleMode, scores: Tensor) -> None:
        if bool((error <= self.tolerance).all()):  # not so if it is no number
            return
        unknown = mode.unknown | _own_functions(scores)
        blamed = f"without a rule: {', '.join(sorted(unknown))}" if unknown else "all have rules: rounding"
        raise ExplanationError(
            f"DeepLIFT misses the difference of scores of {type(subject.module).__name__} by {float(error.max()):.0%} "
            f"(tolerance {self.tolerance:.0%}; {blamed}). Its map would be wrong; use integrated_gradients "
            f"instead, or a baseline nearer to the image, e.g. mean or blur"
        )


def _own_functions(scores: Tensor) -> set[str]:
    """Names of functions in the graph of the scores that come with a backward of their own, which hides them."""
    found: set[str] = set()
    seen: set[object] = set()
    waiting = [scores.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction) and not isinstance(node, Value._backward_cls):
            found.add(node.name().removesuffix("Backward"))
        waiting += [parent for parent, _ in node.next_functions]
    return found
