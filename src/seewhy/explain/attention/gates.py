"""Gates of attention modules such as CBAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, ExplanationError, nearest
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.attention.base import CoarseMap, ForwardMap
from seewhy.explain.capture.function_tracer import FunctionTracer, Modules, Run
from seewhy.explain.explained_model import ExplainedModel, Inputs

__all__ = ["Gates", "read_channel_gates"]

GateHandler = Callable[[Run, Tensor], None]


class Gates(ForwardMap):
    """Spatial gates [B, 1, *s] in (0, 1), by which a network multiplies its features (CBAM, Woo 2018, equation 5).

    A gate is the value of a sigmoid (or hard sigmoid) with one channel and more than one position. Channel gates
    [B, C, 1, 1] have no position and so no map; `read_channel_gates` returns them.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`; None searches the whole module.
        gate: index of the spatial gate, in the order in which they run, negative from the last; None is the mean of
            all gates' maps.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import Gates
        >>> from seewhy.nets.generators.blocks import CBAM
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), CBAM(8), nn.Flatten(), nn.Linear(8 * 64, 2))
        >>> maps = Gates()(net, torch.rand(2, 1, 8, 8))
        >>> maps.layers, maps.maps["image"].shape
        ({'image': '1.spatial_attn'}, torch.Size([2, 8, 8]))
    """

    method = "gates"

    def __init__(self, *, modules: Modules = None, gate: int | None = -1) -> None:
        super().__init__(modules=modules)
        self.gate = gate

    def read_maps(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """See `ForwardMap.read_maps`."""
        maps: dict[str, list[CoarseMap]] = {}
        channel_gates: list[str] = []

        def handle(run: Run, values: Tensor) -> None:
            if _is_spatial(values):
                maps.setdefault(run.input, []).append(CoarseMap(values[:, 0].clone(), run.name))
            else:
                channel_gates.append(run.name)

        scores = _run(subject, self.modules, handle)
        if not maps:
            names = f"{channel_gates[0]}{', …' * (len(channel_gates) > 1)}"
            raise ExplanationError(
                f"{type(subject.module).__name__} has only channel gates ({names}), which have no position; "
                "read them with seewhy.explain.read_channel_gates, or use grad_cam for a map"
            )
        return scores, {name: self._select(name, gates) for name, gates in maps.items()}

    def _select(self, name: str, gates: list[CoarseMap]) -> list[CoarseMap]:
        if self.gate is None:
            return gates
        if not -len(gates) <= self.gate < len(gates):
            raise ConfigError(
                f"gates: gate={self.gate} is out of range: input {name} passes {len(gates)} spatial gates; expected "
                f"{-len(gates)} to {len(gates) - 1}, or null for the mean of all"
            )
        return [gates[self.gate]]


def read_channel_gates(module: nn.Module, inputs: Inputs, *, modules: Modules = None) -> dict[str, Tensor]:
    """Read the channel gates of CBAM or squeeze and excitation, by which a network multiplies its channels.

    Args:
        module: any module that returns class scores.
        inputs: see `seewhy.explain.explained_model.Inputs`.
        modules: see `seewhy.explain.capture.function_tracer.Modules`; None searches the whole module.

    Returns:
        Dotted name of the gating submodule → [n, C] in [0, 1]; later runs of the same submodule are named `name#2`,
        `name#3` …

    Raises:
        ConfigError: the module has no gates.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import read_channel_gates
        >>> from seewhy.nets.generators.blocks import CBAM
        >>> net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), CBAM(8), nn.Flatten(), nn.Linear(8 * 64, 2))
        >>> {name: gate.shape for name, gate in read_channel_gates(net, torch.rand(2, 1, 8, 8)).items()}
        {'1.channel_attn': torch.Size([2, 8])}
    """
    gates: dict[str, Tensor] = {}

    def handle(run: Run, values: Tensor) -> None:
        if not _is_spatial(values):
            runs = sum(name.split("#")[0] == run.name for name in gates)
            gates[f"{run.name}#{runs + 1}" if runs else run.name] = values.flatten(1).float().clone()

    subject = ExplainedModel(module, inputs)
    with keep_unchanged(subject.module), torch.no_grad():
        _run(subject, modules, handle)
    return gates


def _run(subject: ExplainedModel, modules: Modules, handle: GateHandler) -> Tensor:
    """Run one forward, pass all gates to `handle`, and return class scores [B, K]."""
    tracer = _make_tracer(subject, modules, handle)
    scores = tracer.scores()
    if empty := tracer.empty_roots():
        names: list[str] = []
        _make_tracer(subject, None, lambda run, _: names.append(run.name)).scores()
        kind = type(subject.module).__name__
        if not names:
            raise ConfigError(f"no gates in {kind}: no sigmoid of [B, 1, *s] or [B, C, 1, 1]; use grad_cam")
        raise ConfigError("; ".join(f"{kind}: no gate in {name!r}; {nearest(name, names)}" for name in empty))
    tracer.check_runs()
    return scores


def _make_tracer(subject: ExplainedModel, modules: Modules, handle: GateHandler) -> FunctionTracer:
    def sigmoid(run: Run, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        result = func(*args, **kwargs)
        if result.ndim in (4, 5) and (_is_spatial(result) or result[0, 0].numel() == 1):
            tracer.record(run)
            handle(run, result)
        return result

    tracer = FunctionTracer(subject, modules, handlers={"sigmoid": sigmoid, "hardsigmoid": sigmoid})
    return tracer


def _is_spatial(values: Tensor) -> bool:
    return values.shape[1] == 1 and values[0, 0].numel() > 1
