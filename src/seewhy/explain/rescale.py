"""A mode in which a forward pass of images beside their references has DeepLIFT's multipliers for gradients.

Functions are met where they are called: modules that are used twice, functions without a module and methods of
tensors are alike, in place or not, and nothing is patched that would have to be mended afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seewhy.errors import ExplanationError
from seewhy.explain.calls import Call
from seewhy.explain.rules import LINEAR, rule_of

__all__ = ["RescaleMode"]


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
