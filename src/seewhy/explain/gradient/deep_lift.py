"""DeepLIFT maps.

Functions are intercepted where they are called, so modules that run twice, functions without a module, tensor methods
and in-place functions are all handled, and no module is patched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.capture.function_tracer import Call
from seewhy.explain.capture.layers import named_parts
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, Images, sum_channels
from seewhy.explain.gradient.deep_lift_rules import LINEAR, Value, rule_of
from seewhy.explain.maps import compute_completeness_error
from seewhy.option_types import MemorySize, PositiveFloat

__all__ = ["DeepLift", "RescaleMode"]


class RescaleMode(TorchFunctionMode):
    """Mode in which the gradients of a batch of images and references are DeepLIFT's multipliers.

    Args:
        rows: number of rows of the batch, even: images first, then their references in the same order.

    Attributes:
        unknown: names of called functions without a rule; they keep their gradient at the image, which is right if
            they are linear.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.unknown: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Apply the rule of a function if it has one; the mode is off inside."""
        call = Call(func, args, dict(kwargs or {}))
        rule = rule_of(call) if torch.is_grad_enabled() else None
        if rule is not None:
            self._check(call)
            output = rule(call)
            return call.tensors[0].copy_(output) if call.in_place else output
        if call.composed and call.name not in LINEAR:
            with self:
                return call.run_composed()
        output = func(*args, **(kwargs or {}))
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if isinstance(first, Tensor) and first.requires_grad and call.name not in LINEAR:
            self.unknown.add(call.name)
        return output

    def _check(self, call: Call) -> None:
        wrong = [x for x in call.tensors if x.requires_grad and (not x.ndim or len(x) % self.rows)]
        if wrong:
            raise ExplanationError(
                f"DeepLIFT: {call.name!r} is called on {tuple(wrong[0].shape)}, whose first axis is not the batch of "
                f"{self.rows // 2} images and as many references; use integrated_gradients"
            )


class DeepLift(GradientExplainer):
    """Multipliers times x − x0, by the rescale rule (Shrikumar 2017, equations 3 and 10).

    In addition to the paper's elementwise functions and max pooling there are rules for products of activations (gates
    of squeeze-and-excitation, attention), quotients, maxima, softmax and normalisation by a sample's own statistics.
    For any other nonlinear function the sum of the map differs from the difference of the scores; then an error is
    raised instead of returning a wrong map. Captum's DeepLift has no rules for these functions and ignores them
    silently, so its maps of networks with squeeze-and-excitation or attention are not complete
    (tests/explain/gradient/test_deep_lift.py).

    Args:
        baseline: x0.
        tolerance: largest completeness error, as a share.
        memory_budget: memory limit of the rows of one chunk.

    Raises:
        ConfigError: an option out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import DeepLift
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
        >>> maps = DeepLift()(net, torch.rand(2, 1, 8, 8), target=1)
        >>> maps.maps["image"].shape, bool((maps.completeness < 1e-4).all())
        (torch.Size([2, 8, 8]), True)
    """

    method = "deep_lift"

    def __init__(
        self, *, baseline: Baseline = "minimum", tolerance: PositiveFloat = 0.05, memory_budget: MemorySize = "1GiB"
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        if tolerance <= 0:
            raise ConfigError(f"tolerance={tolerance}; expected a share above 0, e.g. 0.05")
        self.start, self.tolerance = check_baseline(baseline), tolerance
        self.baseline = describe_baseline(baseline)

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`.

        Raises:
            ExplanationError: a completeness error above the tolerance, or a network that mixes samples.
        """
        subject.check_not_scripted(named_parts(subject.module))
        return self._attribute_in_chunks(subject, targets, partial(self._explain_rows, subject))

    def _explain_rows(
        self, subject: ExplainedModel, rows: Tensor, targets: Sequence[Tensor]
    ) -> list[tuple[Images, Tensor]]:
        """Return maps and completeness errors of some samples for each target."""
        images = {name: image[rows] for name, image in subject.inputs.items()}
        starts = {name: make_baseline(image, self.start) for name, image in images.items()}
        pairs = {name: torch.cat([image, starts[name]]).requires_grad_() for name, image in images.items()}
        mode = RescaleMode(2 * len(rows))
        with mode:
            scores = subject.scores(pairs, rows=torch.cat([rows, rows]))
        image_scores, start_scores = scores.chunk(2)
        results = []
        for position, target in enumerate(targets):
            score = subject.target_scores(image_scores, target)
            last = position == len(targets) - 1
            slopes = torch.autograd.grad(score.sum(), list(pairs.values()), retain_graph=not last, allow_unused=True)
            maps = {
                name: sum_channels((0 if slope is None else slope[: len(rows)]) * (image - starts[name]))
                for (name, image), slope in zip(images.items(), slopes, strict=True)
            }
            start_score = subject.target_scores(start_scores, target).detach()
            error = compute_completeness_error(maps, score.detach(), start_score)
            self._check(error, subject, mode, scores)
            results.append((maps, error))
        return results

    def _check(self, error: Tensor, subject: ExplainedModel, mode: RescaleMode, scores: Tensor) -> None:
        if bool((error <= self.tolerance).all()):  # False for NaN
            return
        unknown = mode.unknown | _find_custom_functions(scores)
        cause = f"without a rule: {', '.join(sorted(unknown))}" if unknown else "all functions have rules: rounding"
        raise ExplanationError(
            f"DeepLIFT misses the difference of scores of {type(subject.module).__name__} by {float(error.max()):.0%} "
            f"(tolerance {self.tolerance:.0%}; {cause}). Its map would be wrong; use integrated_gradients, or a "
            f"baseline nearer to the image, e.g. mean or blur"
        )


def _find_custom_functions(scores: Tensor) -> set[str]:
    """Find the names of `torch.autograd.Function` classes in the graph of the scores; the mode cannot see inside."""
    names: set[str] = set()
    seen: set[object] = set()
    waiting = [scores.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, BackwardCFunction) and not isinstance(node, Value._backward_cls):
            names.add(node.name().removesuffix("Backward"))
        waiting += [parent for parent, _ in node.next_functions]
    return names
