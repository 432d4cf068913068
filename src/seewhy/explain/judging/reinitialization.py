"""A module with other weights for a while: what the randomisation test compares with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.frozen_module import keep_unchanged

__all__ = ["find_head", "reinitialize"]

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def reinitialize(subject: ExplainedModel, parts: Sequence[nn.Module] | None = None, *, seed: int) -> Iterator[None]:
    """Fresh weights in place of the trained ones; afterwards the very same tensors are back, also after an error.

    A part is drawn anew by its own `reset_parameters`; parameters of parts without one (tokens, positions) are
    shuffled, which keeps their mean and deviation. Batch statistics are measured anew on the subject's images:
    random weights behind the statistics of trained ones give vanishing activations. The trained tensors are laid
    aside, never written to; the cost is one copy of the parameters concerned.

    Args:
        subject: module and the batch that is explained.
        parts: what is drawn anew, with all below it; None is the whole module.
        seed: of the draw; the random state of PyTorch is left as it was.
    """
    roots = [subject.module] if parts is None else parts
    chosen = list(dict.fromkeys(part for root in roots for part in root.modules()))
    parameters: list[tuple[nn.Parameter, Tensor]] = []
    buffers: list[tuple[nn.Module, str, Tensor]] = []
    try:
        # Inference mode (Lightning's predict) would make tensors that no gradient may ever pass.
        with torch.inference_mode(False), torch.no_grad():
            for parameter in dict.fromkeys(p for part in chosen for p in part.parameters(recurse=False)):
                parameters.append((parameter, parameter.data))
                parameter.data = parameter.data.clone()
            for part in chosen:
                for name, buffer in part.named_buffers(recurse=False):
                    buffers.append((part, name, buffer))
                    part._buffers[name] = buffer.clone()
            _draw(chosen, seed)
            _measure_statistics(subject, chosen)
        yield
    finally:
        for parameter, trained in parameters:
            parameter.data = trained
        for part, name, trained in buffers:
            part._buffers[name] = trained


def find_head(subject: ExplainedModel) -> list[nn.Module]:
    """The modules that turn features into scores.

    Where the module says which layers give its maps, all parametrised modules that run only behind them; otherwise
    the linear or convolutional module that runs last.

    Raises:
        ConfigError: no parametrised module runs in a forward.
    """
    order = _calls(subject)
    names = {part: name for name, part in subject.module.named_modules()}
    layers = set(subject.about.layers.values())
    last = max((position for position, part in enumerate(order) if names[part] in layers), default=None)
    if last is not None:
        # A layer counts as run when it returns, so what runs within it stands before it.
        before = {*order[: last + 1], *(part for part in names if layers & {names[below] for below in part.modules()})}
        behind = [part for part in dict.fromkeys(order[last + 1 :]) if part not in before and _own(part)]
        if behind:
            return behind
    parametrised = [part for part in order if _own(part)]
    weighted = [part for part in parametrised if isinstance(part, WEIGHTED)] or parametrised
    if not weighted:
        raise ConfigError(f"{type(subject.module).__name__} runs no module with parameters; nothing can be drawn anew")
    return [weighted[-1]]


def _own(part: nn.Module) -> bool:
    return next(part.parameters(recurse=False), None) is not None


def _calls(subject: ExplainedModel) -> list[nn.Module]:
    """All modules in the order in which they return during a forward."""
    order: list[nn.Module] = []
    hooks = [part.register_forward_hook(lambda part, *_: order.append(part)) for part in subject.module.modules()]
    try:
        with keep_unchanged(subject.module), torch.no_grad():
            subject.scores(subject.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _draw(parts: list[nn.Module], seed: int) -> None:
    devices = {p.device.index or 0 for part in parts for p in part.parameters(recurse=False) if p.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices)):
        # Not torch.manual_seed, which seeds every GPU, those too that are not restored.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        for part in parts:
            reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
            if callable(reset) and _needs_nothing(reset):
                reset()
                continue
            for parameter in part.parameters(recurse=False):
                order = torch.randperm(parameter.numel()).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))


def _needs_nothing(function: object) -> bool:
    required = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return all(one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in required)


def _measure_statistics(subject: ExplainedModel, parts: list[nn.Module]) -> None:
    """Mean and variance of each normalisation by batch statistics over all its calls in one forward."""
    normalizing = [part for part in parts if _running(part)]
    moments: dict[nn.Module, tuple[int, Tensor, Tensor]] = {}

    # In evaluation mode and by hooks, not in training mode: no samples are exchanged between processes (SyncBatchNorm),
    # and a single value per channel does no harm.
    def measure(part: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        new = (x.numel() // x.shape[1], *torch.var_mean(x.float(), dim=axes, correction=0))
        moments[part] = count, variance, mean = _pooled(moments[part], new) if part in moments else new
        if count > 1:
            part.running_mean.copy_(mean)  # type: ignore[operator]
            part.running_var.copy_(variance * count / (count - 1))  # type: ignore[operator]

    hooks = [part.register_forward_pre_hook(measure) for part in normalizing]
    try:
        if hooks:
            with keep_unchanged(subject.module), torch.no_grad():
                subject.scores(subject.inputs)
    finally:
        for hook in hooks:
            hook.remove()


def _running(part: nn.Module) -> bool:
    return isinstance(getattr(part, "running_mean", None), Tensor) and isinstance(
        getattr(part, "running_var", None), Tensor
    )


def _pooled(first: tuple[int, Tensor, Tensor], second: tuple[int, Tensor, Tensor]) -> tuple[int, Tensor, Tensor]:
    """Count, variance and mean of two sets of values together (Chan 1979)."""
    count = first[0] + second[0]
    step = second[2] - first[2]
    mean = first[2] + step * second[0] / count
    squares = first[1] * first[0] + second[1] * second[0] + step**2 * first[0] * second[0] / count
    return count, squares / count, mean
