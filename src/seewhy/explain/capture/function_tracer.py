"""Meeting the torch functions that a module calls, under the name of the submodule that calls them.

A call of a torch function, in whichever way it was written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seewhy.errors import ConfigError, nearest
from seewhy.explain.capture.layers import named_parts
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["Call", "FunctionTracer", "Handler", "Modules", "Run"]


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


Modules: TypeAlias = "str | Sequence[str] | Mapping[str, str | Sequence[str]] | None"
"""Dotted names of submodules to look into: of all inputs, or by input; None is what the module says of itself."""
Handler: TypeAlias = "Callable[[Run, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]"
"""What is done instead of a call of a function with arguments, and returned in its place."""

GRID_FUNCTIONS = ("conv", "pool", "interpolate")
NO_PLACE = (nn.Softmax, nn.Sigmoid, nn.Hardsigmoid)
"""Functions in the form of a module: what calls them is meant."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a submodule.

    Attributes:
        name: dotted name of the innermost running submodule.
        input: the input it belongs to.
        around: it and the modules that it is part of, outermost first.
        running: those of them whose forward is running; of others, parts are called from outside.
        grids: sizes of the grids that convolutions and poolings have given so far, first to last.
    """

    name: str
    input: str
    around: tuple[nn.Module, ...]
    running: tuple[nn.Module, ...]
    grids: tuple[tuple[int, ...], ...]


class FunctionTracer(TorchFunctionMode):
    """Meets chosen torch functions in one forward of a subject, however the modules that call them are written.

    What runs several times with several inputs belongs to them in order.

    Args:
        subject: module and batch.
        modules: see `Modules`.
        told: names that the module says of itself; empty where it does not, then everything is looked into.
        meet: what to do by a function's name.

    Attributes:
        roots: input → names that are looked into.
        names: submodules in which something was met, in order.

    Raises:
        ConfigError: names or inputs that do not exist, all at once.
    """

    def __init__(
        self, subject: ExplainedModel, modules: Modules, *, told: Sequence[str] = (), meet: Mapping[str, Handler]
    ) -> None:
        super().__init__()
        self.subject = subject
        self.meet = meet
        self.parts = named_parts(subject.module)
        self.roots = _roots(subject, self.parts, modules, told)
        self.names: list[str] = []
        self._label = {part: name for name, part in reversed(self.parts.items())}
        self._stack: list[nn.Module] = []
        self._grids: list[tuple[int, ...]] = []
        self._owners: dict[str, list[str]] = {}
        self._begun: dict[str, int] = {}

    def scores(self) -> Tensor:
        """Run the forward once; class scores [B, K]."""
        with self._named(), self:
            return self.subject.scores(self.subject.inputs)

    def silent(self) -> list[str]:
        """Roots in which nothing was met."""
        asked = dict.fromkeys(root for roots in self.roots.values() for root in roots)
        return [root for root in asked if not any(_inside(name, root) for name in self.names)]

    def check_runs(self) -> None:
        """Refuse a module that ran another number of times than there are inputs it stands for.

        Raises:
            ConfigError: it is not known which run belongs to which input.
        """
        for name in dict.fromkeys(self.names):
            owners, runs = self._owners[name], self._begun.get(name, 1)
            if len(owners) > 1 and runs != len(owners):
                raise ConfigError(
                    f"{name!r} ran {runs} time{'s' * (runs != 1)} in the forward, but stands for {len(owners)} inputs "
                    f"({', '.join(owners)}); say which modules belong to which input: modules={{input: name, …}}"
                )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "multi_head_attention_forward":  # made of what is to be met
            with self:
                return Call(func, args, kwargs).opened()
        plain = name.removesuffix("_")
        if plain in self.meet and (run := self._run()):
            return self.meet[plain](run, func, args, kwargs)
        result = func(*args, **kwargs)
        if any(part in name for part in GRID_FUNCTIONS) and isinstance(result, Tensor) and result.ndim in (4, 5):
            self._grids.append(tuple(result.shape[2:]))
        return result

    def met(self, run: Run) -> None:
        """Note that a run showed what was looked for."""
        self.names.append(run.name)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Know at any time which submodules are running."""

        def begin(part: nn.Module, _: object) -> None:
            self._stack.append(part)
            self._begun[self._label[part]] = self._begun.get(self._label[part], 0) + 1

        def end(part: nn.Module, _: object, __: object) -> None:
            while self._stack and self._stack.pop() is not part:  # those that an exception ended, and the model caught
                pass

        hooks = []
        try:
            for part in dict.fromkeys(self.parts.values()):
                hooks += [part.register_forward_pre_hook(begin), part.register_forward_hook(end)]
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._stack.clear()

    def _run(self) -> Run | None:
        """The present run, where it lies in what is looked into."""
        running = [part for part in self._stack if not _is_function(part)]
        name = self._label[running[-1]] if running else ""
        if name not in self._owners:
            self._owners[name] = [
                one for one, roots in self.roots.items() if any(_inside(name, root) for root in roots)
            ]
        owners = self._owners[name]
        if not owners:
            return None
        steps = name.split(".") if name else []
        return Run(
            name=name,
            input=owners[min(self._begun.get(name, 1), len(owners)) - 1],
            around=tuple(self.parts[".".join(steps[:depth])] for depth in range(len(steps) + 1)),
            running=tuple(running),
            grids=tuple(self._grids),
        )


def _roots(
    subject: ExplainedModel, parts: Mapping[str, nn.Module], modules: Modules, told: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    names = subject.about.inputs
    if modules is None:
        return dict.fromkeys(names, tuple(told) or ("",))
    chosen = modules if isinstance(modules, Mapping) else dict.fromkeys(names, modules)
    problems = [
        f"modules of an input {name!r} that does not exist; {nearest(name, names)}"
        for name in chosen
        if name not in names
    ]
    roots = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in chosen.items()}
    kind, wanted = type(subject.module).__name__, dict.fromkeys(root for some in roots.values() for root in some)
    unknown = [root for root in wanted if root.replace("_orig_mod.", "") not in parts or not root]
    problems += [f"{kind} has no module {root!r}; {nearest(root, filter(None, parts))}" for root in unknown]
    if not roots or not all(roots.values()):
        problems.append("modules is empty; name at least one for each input, or null for what the module says")
    if problems:
        raise ConfigError("; ".join(problems))
    return {name: tuple(root.replace("_orig_mod.", "") for root in roots[name]) for name in names if name in roots}


def _is_function(part: nn.Module) -> bool:
    return isinstance(part, NO_PLACE) or type(part).__name__ in ("Sigmoid", "HardSigmoid")  # timm has its own


def _inside(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(f"{root}.")
