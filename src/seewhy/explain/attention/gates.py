"""Gates of attention modules such as CBAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, ExplanationError, nearest
from seewhy.explain.attention.base import CoarseMap, ForwardMap
from seewhy.explain.capture.function_tracer import FunctionTracer, Modules, Run
from seewhy.explain.explained_model import ExplainedModel, Inputs
from seewhy.explain.frozen_module import keep_unchanged

__all__ = ["Gates", "read_channel_gates"]

See = Callable[[Run, Tensor], None]


class Gates(ForwardMap):
    """Spatial gates [B, 1, *s] in (0, 1), by which a network multiplies its features (CBAM, Woo 2018, equation 5).

    A gate is the value of a sigmoid (or hard sigmoid) with one channel and several places. Channel gates
    [B, C, 1, 1] have no place and make no map: `channel_gates` reads them.

    Args:
        modules: see `seewhy.explain.capture.function_tracer.Modules`; None looks everywhere.
        gate: which of the spatial gates, in the order in which they run, from the last if negative; None is the
            mean of the maps of all.
    """

    method = "gates"

    def __init__(self, *, modules: Modules = None, gate: int | None = -1) -> None:
        super().__init__(modules=modules)
        self.gate = gate

    def look(self, subject: ExplainedModel) -> tuple[Tensor, dict[str, list[CoarseMap]]]:
        """See `ForwardMap.look`."""
        looks: dict[str, list[CoarseMap]] = {}
        channels: list[str] = []

        def see(run: Run, values: Tensor) -> None:
            if _is_spatial(values):
                looks.setdefault(run.input, []).append(CoarseMap(values[:, 0].clone(), run.name))
            else:
                channels.append(run.name)

        scores = _seen(subject, self.modules, see)
        if not looks:
            raise ExplanationError(
                f"{type(subject.module).__name__} has only channel gates ({channels[0]}{', …' * (len(channels) > 1)}), "
                "which have no place; read them by seewhy.explain.attention.gates.channel_gates, "
                "or take grad_cam for a map"
            )
        return scores, {name: self._chosen(name, several) for name, several in looks.items()}

    def _chosen(self, name: str, several: list[CoarseMap]) -> list[CoarseMap]:
        if self.gate is None:
            return several
        if not -len(several) <= self.gate < len(several):
            raise ConfigError(
                f"gates: gate={self.gate} is out of range: {name} passes {len(several)} spatial gates; expected "
                f"{-len(several)} to {len(several) - 1}, or null for the mean of all"
            )
        return [several[self.gate]]


def read_channel_gates(module: nn.Module, inputs: Inputs, *, modules: Modules = None) -> dict[str, Tensor]:
    """How far each channel is let through: CBAM's channel gates, squeeze and excitation.

    Args:
        module: any module that gives class scores.
        inputs: see `seewhy.explain.explained_model.Inputs`.
        modules: where to look, see `seewhy.explain.capture.function_tracer.Modules`; None is everywhere.

    Returns:
        Dotted name of the module that gates → [n, C] in [0, 1]; the k-th run (k > 1) of one that runs several times
        is called `name#k`.

    Raises:
        ConfigError: there are no gates.
    """
    found: dict[str, Tensor] = {}

    def see(run: Run, values: Tensor) -> None:
        if not _is_spatial(values):
            runs = sum(name.split("#")[0] == run.name for name in found)
            found[f"{run.name}#{runs + 1}" if runs else run.name] = values.flatten(1).float().clone()

    subject = ExplainedModel(module, inputs)
    with keep_unchanged(subject.module), torch.no_grad():
        _seen(subject, modules, see)
    return found


def _seen(subject: ExplainedModel, modules: Modules, see: See) -> Tensor:
    """Show all gates of a forward; class scores [B, K]."""
    watch = _watch(subject, modules, see)
    scores = watch.scores()
    if silent := watch.silent():
        shown: list[str] = []
        _watch(subject, None, lambda run, _: shown.append(run.name)).scores()
        kind = type(subject.module).__name__
        if not shown:
            raise ConfigError(f"found no gates in {kind}: no sigmoid of [B, 1, *s] or [B, C, 1, 1]; take grad_cam")
        raise ConfigError("; ".join(f"{kind}: {name!r} showed no gate; {nearest(name, shown)}" for name in silent))
    watch.check_runs()
    return scores


def _watch(subject: ExplainedModel, modules: Modules, see: See) -> FunctionTracer:
    def sigmoid(run: Run, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        result = func(*args, **kwargs)
        if result.ndim in (4, 5) and (_is_spatial(result) or result[0, 0].numel() == 1):
            watch.met(run)
            see(run, result)
        return result

    watch = FunctionTracer(subject, modules, meet={"sigmoid": sigmoid, "hardsigmoid": sigmoid})
    return watch


def _is_spatial(values: Tensor) -> bool:
    return values.shape[1] == 1 and values[0, 0].numel() > 1
