"""What is explained: a module with its inputs, called the same way whatever it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from inspect import signature
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["Explainable", "ExplainedModel", "Inputs", "Target"]

Inputs: TypeAlias = "Tensor | Mapping[str, Tensor] | Sequence[Tensor]"
"""One image batch [B, C, *spatial]; or several, by name or by position."""
Target: TypeAlias = "int | Tensor | Sequence[int] | None"
"""Class index of all samples or of each; None is the predicted class."""


@dataclass(frozen=True, kw_only=True)
class Explainable:
    """What a module says of itself, by its method `explainable()`.

    Attributes:
        inputs: names of the images that can be explained, in the order the module computes them; further entries
            of an input dict are held constant.
        layers: input → dotted name of the submodule whose output activations count. Where one submodule runs once
            per input, its calls belong in order to the inputs that name it.
        attention: dotted names of attention modules, first to last.
        classes: names of the classes.
        multi_label: each column of the scores is a sigmoid of its own, instead of one softmax over all.
    """

    inputs: tuple[str, ...] = ("image",)
    layers: Mapping[str, str] = field(default_factory=dict)
    attention: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    multi_label: bool = False


class ExplainedModel:
    """A module and a batch for it, under names.

    A bare tensor is the module's only input; a sequence gives its inputs by position. A module with `explainable()`
    is called as ours are, with the bare tensor or with one dict; a third-party module with the tensor, with
    positional or with keyword arguments, and each [B, C, H, W] or [B, C, D, H, W] among them is explained.

    Attributes:
        module: the module, without the wrapper of `torch.compile`.
        about: what it says of itself, or what is assumed of a third-party module.
        inputs: name → [B, C, *spatial], the explained images, without gradient.
        constants: name → [B, ...], everything else that the module takes.
    """

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        self.module: nn.Module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
        self._ours = hasattr(self.module, "explainable")
        self._bare, self._named = isinstance(inputs, Tensor), isinstance(inputs, Mapping)
        told = cast("Explainable", self.module.explainable()) if self._ours else None  # type: ignore[operator]
        given = _by_name(inputs, told.inputs if told else ())
        if told is None:
            given = _as_called(self.module, given)
        self.about = told or Explainable(inputs=tuple(name for name, one in given.items() if one.ndim in (4, 5)))
        self._order = tuple(given)
        self._check(given)
        with torch.inference_mode(False):  # clones, since tensors made in inference mode can never enter a graph
            copies = {name: one.detach().clone() for name, one in given.items()}
        self.inputs = {name: copies.pop(name) for name in self.about.inputs}
        self.constants = copies

    @property
    def batch(self) -> int:
        """B, the number of samples."""
        return len(next(iter(self.inputs.values())))

    def changed(self, inputs: Mapping[str, Tensor], rows: Tensor) -> ExplainedModel:
        """The same module with other images.

        Args:
            inputs: name → [n, C, *spatial], as `self.inputs`.
            rows: [n] the sample that each row was made of, for the constants.
        """
        other = copy(self)
        other.inputs = dict(inputs)
        other.constants = {name: value[rows] for name, value in self.constants.items()}
        return other

    def scores(self, inputs: Mapping[str, Tensor], *, rows: Tensor | None = None) -> Tensor:
        """Raw class scores [n, K] of changed inputs.

        Args:
            inputs: name → [n, C, *spatial], as `self.inputs`.
            rows: [n] the sample that each row was made of, for the constants; None means n = B, in order.
        """
        constants = self.constants if rows is None else {name: value[rows] for name, value in self.constants.items()}
        everything = {name: inputs[name] if name in inputs else constants[name] for name in self._order}
        if self._ours and not self._bare:
            output = self.module(everything)
        elif self._named:
            output = self.module(**everything)
        else:
            output = self.module(*everything.values())
        return _as_scores(output, self.module)

    def targets(self, target: Target, scores: Tensor) -> Tensor:
        """Class index of each sample, [B] int64.

        Args:
            target: as the user gave it.
            scores: [B, K] of the unchanged inputs.

        Raises:
            ConfigError: an index that is no class, or not one per sample.
        """
        classes = max(scores.shape[1], 2)  # one column is a yes and a no
        if target is None:
            return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(dim=1)
        chosen = torch.as_tensor(target, device=scores.device)
        if chosen.is_floating_point() or chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != len(scores)):
            raise ConfigError(f"target={target!r} must be one class index, or one for each of {len(scores)} samples")
        wrong = sorted({int(one) for one in chosen.flatten() if not 0 <= int(one) < classes})
        if wrong:
            names = f" ({', '.join(self.about.classes)})" if self.about.classes else ""
            raise ConfigError(f"target {wrong} is no class; expected 0 to {classes - 1}{names}")
        return chosen.long().expand(len(scores)).clone()

    def target_scores(self, scores: Tensor, target: Tensor) -> Tensor:
        """Score of each row's target, [n]; of a single column, class 1 is its value and class 0 its negative."""
        if scores.shape[1] == 1:
            return scores[:, 0] * (2 * target - 1).to(scores)
        return scores.gather(1, target[:, None])[:, 0]

    def probabilities(self, scores: Tensor, target: Tensor) -> Tensor:
        """Probability of each row's target, [n] in [0, 1]."""
        scores = scores.detach().float()
        if scores.shape[1] == 1 or self.about.multi_label:
            return self.target_scores(scores, target).sigmoid()
        return self.target_scores(scores.softmax(dim=1), target)

    def _check(self, given: Mapping[str, Tensor]) -> None:
        kind = type(self.module).__name__
        shapes = ", ".join(f"{name} {tuple(one.shape)}" for name, one in given.items())
        missing = [name for name in self.about.inputs if name not in given]
        if missing:
            raise ConfigError(f"{kind} explains {', '.join(self.about.inputs)}; not given: {', '.join(missing)}")
        wrong = [name for name in self.about.inputs if given[name].ndim not in (4, 5)]
        if wrong or not self.about.inputs:
            raise ConfigError(f"{kind} was given {shapes}; expected images [B, C, H, W] or volumes [B, C, D, H, W]")
        if len({len(one) for one in given.values()}) > 1:
            raise ConfigError(f"{kind} was given {shapes}; the batch sizes differ")


def _by_name(inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    """Inputs under the names a module gives them, or under plain ones."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not names:
        names = ["image"] if isinstance(inputs, Tensor) else [f"input_{number}" for number in range(len(listed))]
    if len(names) != len(listed):
        raise ConfigError(f"{len(listed)} inputs given for {', '.join(names)}; give one for each, or a dict")
    return dict(zip(names, listed, strict=True))


def _as_called(module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Named inputs in the order of the module's forward, which is taken for the order of its work."""
    parameters = list(signature(module.forward).parameters)
    return dict(sorted(given.items(), key=lambda one: parameters.index(one[0]) if one[0] in parameters else len(given)))


def _as_scores(output: object, module: nn.Module) -> Tensor:
    """Class scores of what a module returned: a tensor, what is called `logits`, or the first of several things."""
    output = getattr(output, "logits", output)
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    if isinstance(first, Tensor) and first.ndim == 1:
        first = first[:, None]
    if not isinstance(first, Tensor) or first.ndim != 2:
        found = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ConfigError(f"{type(module).__name__} returned {found}; expected class scores [B, K]")
    return first
