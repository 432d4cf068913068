"""Trace torch function calls and the submodules that make them."""

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


def name_function(function: Callable[..., Any]) -> str:
    """Return the name of a function; empty for callables without one."""
    return str(getattr(function, "__name__", ""))


class Call:
    """Call of a torch function; its in-place form is replaced by the one that is not in place.

    Attributes:
        name: name of the function, without the underscore of in-place forms.
        in_place: whether the call changes its first argument.
        function: the function that is not in place.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.name = name_function(function)
        self.args, self.kwargs, self.function = args, kwargs, function
        self.in_place = False
        if self.name.endswith("_") and not self.name.endswith("__"):
            self.name = self.name[:-1]
            others = (getattr(home, self.name, None) for home in (torch.Tensor, torch, functional))
            other = next((item for item in others if item is not None), None)
            self.in_place, self.function = other is not None, other or function
        elif self.composed:
            bound = inspect.signature(function).bind(*args, **kwargs)
            self.in_place = bool(bound.arguments.get("inplace", False))
            if self.in_place:
                bound.arguments["inplace"] = False
            self.args, self.kwargs = bound.args, bound.kwargs

    @property
    def composed(self) -> bool:
        """Whether the function is written in Python in `torch.nn.functional`, using other torch functions."""
        return inspect.isfunction(self.function) and self.function.__module__ == functional.__name__

    def run_composed(self) -> Any:
        """Run a composed function so that a torch function mode gets the functions inside it.

        Such a function first checks for a torch function mode; in the copy that runs here, this check returns False.
        """
        checks = dict.fromkeys(
            ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), lambda *_: False
        )
        body = FunctionType(
            self.function.__code__,
            {**self.function.__globals__, **checks},
            self.function.__name__,
            self.function.__defaults__,
            self.function.__closure__,
        )
        body.__kwdefaults__ = self.function.__kwdefaults__
        return body(*self.args, **self.kwargs)

    @property
    def tensors(self) -> list[Tensor]:
        """Tensors among the arguments, including those in lists."""
        flat = [item for value in self.args for item in (value if isinstance(value, (list, tuple)) else (value,))]
        return [item for item in (*flat, *self.kwargs.values()) if isinstance(item, Tensor)]

    def options(self, signature: Callable[..., Any]) -> Mapping[str, Any]:
        """Return the arguments by name, according to the signature of a function."""
        bound = inspect.signature(signature).bind(*self.args, **self.kwargs)
        bound.apply_defaults()
        return bound.arguments


Modules: TypeAlias = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None
"""Dotted names of submodules to search: for all inputs, or by input; None is the module's own default."""
Handler: TypeAlias = "Callable[[Run, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]"
"""(run, function, args, kwargs) → the result that replaces the call."""

GRID_FUNCTIONS = ("conv", "pool", "interpolate")
FUNCTION_MODULES = (nn.Softmax, nn.Sigmoid, nn.Hardsigmoid)
"""Modules that only wrap a function: a call is recorded under the module that contains them."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a submodule.

    Attributes:
        name: dotted name of the innermost running submodule.
        input: name of the input that the run belongs to.
        around: the submodule and the modules that contain it, outermost first.
        running: modules of `around` whose forward is running; of the others, children are called from outside.
        grids: grid sizes returned by convolutions and poolings so far, first to last.
    """

    name: str
    input: str
    around: tuple[nn.Module, ...]
    running: tuple[nn.Module, ...]
    grids: tuple[tuple[int, ...], ...]


class FunctionTracer(TorchFunctionMode):
    """Traces torch function calls in one forward and records which submodule made each.

    A submodule that runs once per input is assigned to the inputs in order.

    Args:
        subject: module and batch.
        modules: see `Modules`.
        default: submodules to search if `modules` is None; empty is the whole module.
        handlers: function name → handler of its calls.

    Attributes:
        roots: input → names of the submodules that are searched.
        names: submodules that were recorded, in order.

    Raises:
        ConfigError: submodules or inputs that do not exist.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.capture.function_tracer import FunctionTracer
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.Flatten()), nn.Linear(18, 2))
        >>> calls = []
        >>> def handle(run, function, args, kwargs):
        ...     calls.append((run.name, run.grids))
        ...     return function(*args, **kwargs)
        >>> tracer = FunctionTracer(ExplainedModel(net, torch.zeros(1, 1, 5, 5)), None, handlers={"relu": handle})
        >>> scores = tracer.scores()
        >>> calls
        [('1.0', ((3, 3),))]
    """

    def __init__(
        self,
        subject: ExplainedModel,
        modules: Modules,
        *,
        default: Sequence[str] = (),
        handlers: Mapping[str, Handler],
    ) -> None:
        super().__init__()
        self.subject = subject
        self.handlers = handlers
        self.parts = named_parts(subject.module)
        subject.check_not_scripted(self.parts)
        self.roots = _resolve_roots(subject, self.parts, modules, default)
        self.names: list[str] = []
        self._label = {part: name for name, part in reversed(self.parts.items())}
        self._stack: list[nn.Module] = []
        self._grids: list[tuple[int, ...]] = []
        self._owners: dict[str, list[str]] = {}
        self._begun: dict[str, int] = {}

    def scores(self) -> Tensor:
        """Run the forward once and return class scores [B, K]."""
        with self._track_submodules(), self:
            return self.subject.scores(self.subject.inputs)

    def empty_roots(self) -> list[str]:
        """Return the searched submodules in which nothing was recorded."""
        unique = dict.fromkeys(root for roots in self.roots.values() for root in roots)
        return [root for root in unique if not any(_is_inside(name, root) for name in self.names)]

    def check_runs(self) -> None:
        """Check that every recorded submodule ran once for each of its inputs.

        Raises:
            ConfigError: the runs cannot be assigned to inputs.
        """
        for name in dict.fromkeys(self.names):
            owners, runs = self._owners[name], self._begun.get(name, 1)
            if len(owners) > 1 and runs != len(owners):
                raise ConfigError(
                    f"{name!r} ran {runs} time{'s' * (runs != 1)} in the forward, but belongs to {len(owners)} inputs "
                    f"({', '.join(owners)}); assign modules to inputs: modules={{input: name, …}}"
                )

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_function(func)
        if name == "multi_head_attention_forward":  # trace the functions inside it
            with self:
                return Call(func, args, kwargs).run_composed()
        base = name.removesuffix("_")
        if base in self.handlers and (run := self._current_run()):
            return self.handlers[base](run, func, args, kwargs)
        result = func(*args, **kwargs)
        if any(part in name for part in GRID_FUNCTIONS) and isinstance(result, Tensor) and result.ndim in (4, 5):
            self._grids.append(tuple(result.shape[2:]))
        return result

    def record(self, run: Run) -> None:
        """Record a run in which the wanted values were found."""
        self.names.append(run.name)

    @contextmanager
    def _track_submodules(self) -> Iterator[None]:
        """Keep the stack of running submodules up to date."""

        def begin(part: nn.Module, _: object) -> None:
            self._stack.append(part)
            self._begun[self._label[part]] = self._begun.get(self._label[part], 0) + 1

        def end(part: nn.Module, _: object, __: object) -> None:
            while self._stack and self._stack.pop() is not part:
                pass  # drops submodules that were left by an exception which the model caught

        hooks = []
        try:
            for part in dict.fromkeys(self.parts.values()):
                hooks += [part.register_forward_pre_hook(begin), part.register_forward_hook(end)]
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._stack.clear()

    def _current_run(self) -> Run | None:
        """Return the current run if its submodule is searched."""
        running = [part for part in self._stack if not _is_function(part)]
        name = self._label[running[-1]] if running else ""
        if name not in self._owners:
            self._owners[name] = [
                owner for owner, roots in self.roots.items() if any(_is_inside(name, root) for root in roots)
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


def _resolve_roots(
    subject: ExplainedModel, parts: Mapping[str, nn.Module], modules: Modules, default: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    names = subject.about.inputs
    if modules is None:
        return dict.fromkeys(names, tuple(default) or ("",))
    chosen = modules if isinstance(modules, Mapping) else dict.fromkeys(names, modules)
    problems = [f"modules: unknown input {name!r}; {nearest(name, names)}" for name in chosen if name not in names]
    roots = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in chosen.items()}
    kind, wanted = type(subject.module).__name__, dict.fromkeys(root for some in roots.values() for root in some)
    unknown = [root for root in wanted if root.replace("_orig_mod.", "") not in parts or not root]
    problems += [f"{kind} has no module {root!r}; {nearest(root, filter(None, parts))}" for root in unknown]
    if not roots or not all(roots.values()):
        problems.append("modules is empty; name at least one for each input, or use null for the module's default")
    if problems:
        raise ConfigError("; ".join(problems))
    return {name: tuple(root.replace("_orig_mod.", "") for root in roots[name]) for name in names if name in roots}


def _is_function(part: nn.Module) -> bool:
    return isinstance(part, FUNCTION_MODULES) or type(part).__name__ in ("Sigmoid", "HardSigmoid")  # timm's classes


def _is_inside(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(f"{root}.")
