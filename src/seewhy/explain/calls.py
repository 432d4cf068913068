"""A call of a torch function, in whichever way it was written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Call"]


class Call:
    """A call of a torch function: what it is called and with what.

    Attributes:
        name: without the underscore of its in-place form.
        in_place: whether it shall change its first argument.
        function: its form that is not in place.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.name: str = getattr(function, "__name__", "")
        self.args, self.kwargs, self.function = args, kwargs, function
        self.in_place = False
        if self.name.endswith("_") and not self.name.endswith("__"):
            self.name = self.name[:-1]
            homes = [home for home in (torch.Tensor, torch, functional) if hasattr(home, self.name)]
            self.in_place, self.function = bool(homes), getattr(homes[0], self.name) if homes else function
        elif self.composed:
            bound = inspect.signature(function).bind(*args, **kwargs)
            self.in_place = bool(bound.arguments.get("inplace", False))
            if self.in_place:
                bound.arguments["inplace"] = False
            self.args, self.kwargs = bound.args, bound.kwargs

    @property
    def composed(self) -> bool:
        """Whether it is a function of `torch.nn.functional` that is written in Python, of other torch functions."""
        return inspect.isfunction(self.function) and self.function.__module__ == functional.__name__

    def opened(self) -> Any:
        """Run a composed function so that the functions it is made of are met instead of itself.

        Such a function asks first whether anybody wants to meet it; the copy that runs here is told that nobody does.
        """
        unseen = dict.fromkeys(
            ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), _nobody
        )
        body = FunctionType(
            self.function.__code__,
            {**self.function.__globals__, **unseen},
            self.function.__name__,
            self.function.__defaults__,
            self.function.__closure__,
        )
        body.__kwdefaults__ = self.function.__kwdefaults__
        return body(*self.args, **self.kwargs)

    @property
    def tensors(self) -> list[Tensor]:
        """Its tensors, also those in a list."""
        flat = [one for value in self.args for one in (value if isinstance(value, (list, tuple)) else (value,))]
        return [one for one in (*flat, *self.kwargs.values()) if isinstance(one, Tensor)]

    def options(self, signature: Callable[..., Any]) -> Mapping[str, Any]:
        """Its arguments by name, as a function of that signature takes them."""
        bound = inspect.signature(signature).bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        return bound.arguments


def _nobody(*_: object) -> bool:
    return False
