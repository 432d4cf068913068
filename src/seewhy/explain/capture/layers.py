"""Find the layers that a map is made of, and capture their activations in one forward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.explain.any_module import NamedTupleLike
from seewhy.explain.explained_model import ExplainedModel, unwrap_compiled
from seewhy.explain.grid import to_grid

__all__ = [
    "Capture",
    "Layer",
    "Layers",
    "capture",
    "find_last_map",
    "find_unknown_parts",
    "named_parts",
    "replace_first",
    "resolve_layers",
]

Layer: TypeAlias = str | nn.Module
"""A submodule, or its dotted name."""
Layers: TypeAlias = Layer | Sequence[Layer] | Mapping[str, Layer] | None
"""One layer for all inputs, one per input in order, or by input; None is the layer in the module's `explainable()`."""


def resolve_layers(subject: ExplainedModel, layers: Layers) -> dict[str, tuple[str, nn.Module]]:
    """Resolve the layer of each input to (dotted name, submodule).

    Raises:
        ConfigError: no layer is given, a layer does not exist, or the number of layers is not that of the inputs.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.capture.layers import resolve_layers
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
        >>> resolve_layers(ExplainedModel(net, torch.zeros(1, 1, 5, 5)), "1")
        {'image': ('1', ReLU())}
    """
    names = subject.about.inputs
    if layers is None:
        chosen: Mapping[str, Layer] = subject.about.layers
        if not chosen:
            raise ConfigError(
                f"{type(subject.module).__name__} does not name a layer for its maps; "
                f"give the name of a layer{_propose_layer(subject)}"
            )
    elif isinstance(layers, Mapping):
        chosen = layers
    else:
        listed = [layers] * len(names) if isinstance(layers, (str, nn.Module)) else list(layers)
        if len(listed) != len(names):
            raise ConfigError(f"{len(listed)} layers for the inputs {', '.join(names)}; expected one for each")
        chosen = dict(zip(names, listed, strict=True))
    unknown = [f"{name!r} ({nearest(name, names)})" for name in chosen if name not in names]
    if unknown:
        raise ConfigError(f"layers of inputs that do not exist: {', '.join(unknown)}")
    parts = named_parts(subject.module)
    results = {name: _find(subject.module, parts, chosen[name]) for name in names if name in chosen}
    problems = [problem for problem in results.values() if isinstance(problem, str)]
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))
    return {name: result for name, result in results.items() if not isinstance(result, str)}


def named_parts(module: nn.Module) -> dict[str, nn.Module]:
    """Return submodules by every name they have; `torch.compile` wrappers are removed."""
    parts = {}
    for name, part in module.named_modules(remove_duplicate=False):
        parts[name.replace("_orig_mod.", "")] = unwrap_compiled(part)
    return parts


def find_unknown_parts(module: nn.Module, chosen: object) -> list[str]:
    """List the problems of names of submodules, without a forward.

    Args:
        module: that should have them.
        chosen: a name, or names in a list or by input; other values are not checked.

    Example:
        >>> from torch import nn
        >>> from seewhy.explain.capture.layers import find_unknown_parts
        >>> find_unknown_parts(nn.Sequential(nn.Linear(1, 1)), {"image": "1"})
        ["Sequential has no layer '1'; valid: '0'"]
    """
    if isinstance(chosen, Mapping):
        chosen = list(chosen.values())
    if isinstance(chosen, list | tuple):
        return [problem for item in chosen for problem in find_unknown_parts(module, item)]
    found = _find(module, named_parts(module), chosen) if isinstance(chosen, str) else None
    return [found] if isinstance(found, str) else []


def _find(module: nn.Module, parts: Mapping[str, nn.Module], layer: Layer) -> tuple[str, nn.Module] | str:
    """Return name and submodule, or the problem as text."""
    kind = type(module).__name__
    if isinstance(layer, nn.Module):
        layer = unwrap_compiled(layer)
        names = [name for name, part in parts.items() if part is layer and name]
        return (names[0], layer) if names else f"the given {type(layer).__name__} is not a submodule of {kind}"
    name = layer.replace("_orig_mod.", "")
    if name not in parts or not name:
        return f"{kind} has no layer {layer!r}; {nearest(name, filter(None, parts))}"
    return name, parts[name]


def _propose_layer(subject: ExplainedModel) -> str:
    found = find_last_map(subject)
    return "" if found is None else f", e.g. layers={found!r}"


def find_last_map(subject: ExplainedModel) -> str | None:
    """Find the last layer of a forward that returns a map which the scores depend on; None if no layer does.

    A layer that runs several times, as the ReLU of a residual block, has no single output; the block around it has.
    """
    outputs: list[tuple[str, Tensor]] = []
    image = next(iter(subject.inputs.values()))
    hooks = []
    for name, part in named_parts(subject.module).items():
        if name and not isinstance(part, torch.jit.ScriptModule):

            def note(_: nn.Module, __: object, output: object, name: str = name) -> object:
                if not isinstance(output, Tensor) or not output.requires_grad or not _is_map(output, image):
                    return output
                outputs.append((name, output))
                return output.clone()  # the next layer may work in place

            hooks.append(part.register_forward_hook(note))
    try:
        with torch.enable_grad():
            scores = subject.scores({name: one.clone().requires_grad_() * 1 for name, one in subject.inputs.items()})
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs or not scores.requires_grad:
        return None
    gradients = torch.autograd.grad(scores.sum(), [output for _, output in outputs], allow_unused=True)
    used = [name for (name, _), slope in zip(outputs, gradients, strict=True) if slope is not None and slope.any()]
    runs = Counter(name for name, _ in outputs)
    parts = named_parts(subject.module)
    usable = {name for name in used if runs[name] in (1, len(subject.inputs))}
    leaves = [name for name in used if not list(parts[name].children())]
    if not leaves:
        return None
    last = leaves[-1]
    while last and last not in usable:
        last = last.rpartition(".")[0]
    return last or next((name for name in reversed(leaves) if name in usable), None)


def _is_map(output: Tensor, image: Tensor) -> bool:
    """Whether a layer's output is a grid with more than one position along each axis."""
    try:
        return min(to_grid(output, image).shape[2:]) > 1
    except ConfigError:
        return False


@dataclass(frozen=True)
class Capture:
    """Scores of a batch, and the activations that they were computed from.

    Attributes:
        scores: [B, K] with a graph back to the activations.
        activations: input → output of the layer, unchanged.
    """

    scores: Tensor
    activations: dict[str, Tensor]

    def gradients(self, score: Tensor, *, last: bool, differentiable: bool = False) -> dict[str, Tensor]:
        """Compute the gradients of the samples' scores by the activations, input → tensor of the activation's shape.

        Args:
            score: [B]; samples do not mix in evaluation mode, so the gradient of their sum is that of each sample.
            last: free the graph, because no other target follows.
            differentiable: keep a graph of the gradients, for second derivatives.

        Raises:
            ConfigError: no activation has a path to the scores.
        """
        if not score.requires_grad:
            raise ConfigError(
                "the scores do not depend on the layers' output: the forward runs under no_grad, or bypasses the layers"
            )
        captured = list(self.activations.values())
        gradients = torch.autograd.grad(
            score.sum(), captured, retain_graph=not last, create_graph=differentiable, allow_unused=True
        )
        # An input that the model masks has no path to the scores: its gradient is zero.
        return {
            name: torch.zeros_like(activation) if gradient is None else gradient
            for (name, activation), gradient in zip(self.activations.items(), gradients, strict=True)
        }


def capture(subject: ExplainedModel, layers: Mapping[str, tuple[str, nn.Module]]) -> Capture:
    """Run the module once and capture the output of its layers.

    The output is detached from the layers before it, so that autograd keeps nothing of them and one forward serves all
    inputs: Grad-CAM of four EfficientNet-B0 branches takes 1.07 times a forward without gradients, the grad-cam
    package 17 times as long (benchmarks/explain.py, docs/results.md). An output that already lies in the graph of
    another captured layer is not detached.

    Args:
        subject: module and batch.
        layers: input → (dotted name, submodule), inputs in the order in which the module computes them.

    Raises:
        ConfigError: a layer that did not run, that ran more or less often than the number of inputs that name it, or
            that does not return activations.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.capture.layers import capture
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
        >>> result = capture(ExplainedModel(net, torch.zeros(2, 1, 7, 7)), {"image": ("1", net[1])})
        >>> result.activations["image"].shape, result.scores.shape
        (torch.Size([2, 4, 3, 3]), torch.Size([2, 3]))
    """
    subject.check_not_scripted(dict(layers.values()))
    owners: dict[nn.Module, list[str]] = {}
    for name, (_, layer) in layers.items():
        owners.setdefault(layer, []).append(name)
    kept: dict[nn.Module, list[Tensor]] = {layer: [] for layer in owners}

    def keep(layer: nn.Module, _: object, output: object) -> object:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(first, Tensor) or not first.is_floating_point():
            kind = str(first.dtype) if isinstance(first, Tensor) else type(first).__name__
            raise ConfigError(f"layer {_get_name(layer, layers)!r} returns {kind}, not activations; choose another")
        tensor = first if first.requires_grad else first.detach().requires_grad_()
        kept[layer].append(tensor)
        # The next layer gets a copy, since it may work in place.
        return replace_first(output, tensor.clone())

    hooks = [layer.register_forward_hook(keep) for layer in owners]
    try:
        scores = subject.scores(subject.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, names in owners.items():
        _check_runs(_get_name(layer, layers), len(kept[layer]), names)
    return Capture(scores, {name: kept[layer][owners[layer].index(name)] for name, (_, layer) in layers.items()})


def replace_first(output: object, tensor: Tensor) -> object:
    """Replace the first tensor of an output: of a tensor, tuple, named tuple or list."""
    if not isinstance(output, (tuple, list)):
        return tensor
    items = [tensor, *output[1:]]
    return output._make(items) if isinstance(output, NamedTupleLike) else type(output)(items)


def _check_runs(layer: str, runs: int, names: list[str]) -> None:
    if runs == 0:
        raise ConfigError(
            f"layer {layer!r} did not run in the forward; if only its children are called, choose the last of them"
        )
    if runs != len(names):
        raise ConfigError(
            f"layer {layer!r} ran {runs} times in the forward, but is the layer of {len(names)} "
            f"input{'s' * (len(names) > 1)} ({', '.join(names)}); choose a layer that runs once for each"
        )


def _get_name(layer: nn.Module, layers: Mapping[str, tuple[str, nn.Module]]) -> str:
    return next(name for name, submodule in layers.values() if submodule is layer)
