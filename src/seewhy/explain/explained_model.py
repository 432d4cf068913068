"""A module with its inputs, called in one way for every kind of module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, ExplanationError
from seewhy.explain.any_module import find_scores
from seewhy.explain.targets import Target, resolve_targets
from seewhy.probability import calibrated_probability

__all__ = ["Explainable", "ExplainableModule", "ExplainedModel", "Inputs"]

Inputs: TypeAlias = "Tensor | Mapping[str, Tensor] | Sequence[Tensor]"
"""One image batch [B, C, *spatial]; or several, by name or by position."""
MIXED = 1e-4
"""Change of a sample's scores with its neighbours in the batch, relative to the largest score, if samples mix."""


@dataclass(frozen=True, kw_only=True)
class Explainable:
    """Description of how a module is explained, returned by its method `explainable()`.

    Attributes:
        inputs: names of the images that can be explained, in the order in which the module processes them; other
            entries of an input dict are held constant.
        layers: input → dotted name of the submodule whose output activations are used. If one submodule runs once
            per input, its calls are assigned in order to the inputs that name it.
        attention: dotted names of attention modules, first to last.
        classes: names of the classes.
        multi_label: whether each column of the scores has its own sigmoid, instead of one softmax over all columns.
        temperature: divides the scores before they become probabilities, for a calibrated module.
        measures: what a score says of its class, for modules that predict no classes, e.g. "mean intensity of the
            translated"; empty for classifiers.
        shown: channels of the image whose mean pictures show; empty shows the mean of all.
        shown_as: name of the picture of these channels, e.g. "centre slice, mean of t1 and t2".
    """

    inputs: tuple[str, ...] = ("image",)
    layers: Mapping[str, str] = field(default_factory=dict)
    attention: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    temperature: float = 1.0
    measures: str = ""
    shown: tuple[int, ...] = ()
    shown_as: str = ""


@runtime_checkable
class ExplainableModule(Protocol):
    """A module that describes how it is explained."""

    def explainable(self) -> Explainable:
        """Describe inputs, layers, attention modules and classes."""
        ...


def unwrap_compiled(module: nn.Module) -> nn.Module:
    """Return the module inside a wrapper of `torch.compile`, whose class is private; other modules unchanged."""
    inner: nn.Module = getattr(module, "_orig_mod", module)
    return inner


class ExplainedModel:
    """A module and a batch for it, by name.

    A single tensor is the module's only input; a sequence gives inputs by position. A module with `explainable()` is
    called with the single tensor or with one dict of inputs. Any other module is called with the tensor, with
    positional or with keyword arguments, and each [B, C, H, W] or [B, C, D, H, W] among them is explained.

    Attributes:
        module: the module, without the wrapper of `torch.compile`.
        about: the module's own description, or a default for other modules.
        inputs: name → [B, C, *spatial], the explained images, without gradient.
        constants: name → [B, ...], all other inputs of the module.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> model = ExplainedModel(net, torch.zeros(2, 1, 4, 4))
        >>> list(model.inputs), model.batch, model.scores(model.inputs).shape
        (['image'], 2, torch.Size([2, 3]))
    """

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        if not isinstance(module, nn.Module):
            raise ConfigError(f"got {type(module).__name__}, expected an nn.Module; explain the one it was made from")
        self.module = unwrap_compiled(module)
        about = self.module.explainable() if isinstance(self.module, ExplainableModule) else None
        self._takes_dict = about is not None and not isinstance(inputs, Tensor)
        self._takes_keywords = isinstance(inputs, Mapping)
        given = _name_inputs(inputs, about.inputs if about else ())
        other = [f"{name} {type(one).__name__}" for name, one in given.items() if not isinstance(one, Tensor)]
        if other:
            raise ConfigError(f"{type(self.module).__name__} got {', '.join(other)}; expected tensors")
        if about is None:
            given = _sort_as_called(self.module, given)
        self.about = about or Explainable(inputs=tuple(name for name, one in given.items() if one.ndim in (4, 5)))
        self._order = tuple(given)
        self._check(given)
        with torch.inference_mode(False):  # cloned, since tensors created in inference mode can never enter a graph
            copies = {name: tensor.detach().clone() for name, tensor in given.items()}
        self.inputs = {name: copies.pop(name) for name in self.about.inputs}
        self.constants = copies

    @property
    def batch(self) -> int:
        """B, the number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def everything(self) -> dict[str, Tensor]:
        """All inputs of the module by name, explained or not."""
        return {**self.inputs, **self.constants}

    def changed(self, inputs: Mapping[str, Tensor], rows: Tensor) -> ExplainedModel:
        """Return the same module with other images.

        Args:
            inputs: name → [n, C, *spatial], with the names of `self.inputs`.
            rows: [n] sample that each row was made from; its constants are used.
        """
        other = copy(self)
        other.inputs = dict(inputs)
        other.constants = {name: value[rows] for name, value in self.constants.items()}
        return other

    def scores(self, inputs: Mapping[str, Tensor], *, rows: Tensor | None = None) -> Tensor:
        """Compute raw class scores [n, K] of changed inputs.

        Args:
            inputs: name → [n, C, *spatial], with the names of `self.inputs`.
            rows: [n] sample that each row was made from; its constants are used. None means n = B, in order.
        """
        constants = self.constants if rows is None else {name: value[rows] for name, value in self.constants.items()}
        everything = {name: inputs[name] if name in inputs else constants[name] for name in self._order}
        try:
            if self._takes_dict:
                output = self.module(everything)
            elif self._takes_keywords:
                output = self.module(**everything)
            else:
                output = self.module(*everything.values())
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError, LookupError, AssertionError) as error:
            raise ConfigError(f"{self._describe_call(everything)} fails: {_get_last_line(error)}") from error
        return find_scores(output, len(next(iter(inputs.values()))), type(self.module).__name__)

    @torch.no_grad()
    def check_rows(self) -> None:
        """Check that rows of scores are samples: the others do not change the first sample's scores.

        A module with `explainable()` is trusted.

        Raises:
            ExplanationError: the scores of a sample depend on the rest of the batch.
        """
        if self.batch == 1 or isinstance(self.module, ExplainableModule):
            return
        every = torch.arange(self.batch, device=next(iter(self.inputs.values())).device)
        with suppress(ConfigError):  # two rows are enough, unless the module is made for a batch of this size
            if self._keeps_first_row(every[:2]):
                return
        if not self._keeps_first_row(every):
            raise ExplanationError(
                f"{type(self.module).__name__} mixes samples: next to others, one has other scores, e.g. because they "
                "are pooled over the batch; explain one sample at a time, or wrap the module so that rows are samples"
            )

    def _keeps_first_row(self, rows: Tensor) -> bool:
        """Test whether the first sample's scores stay the same if its image takes the place of the others."""
        first, second = (
            self.scores({name: image[images] for name, image in self.inputs.items()}, rows=rows)
            for images in (rows, torch.zeros_like(rows))
        )
        difference = (first[0] - second[0]).abs().max()
        return bool(difference <= MIXED * first.abs().max()) or not bool(difference.isfinite())

    def check_not_scripted(self, parts: Mapping[str, nn.Module]) -> None:
        """Raise an error if submodules are scripted or traced: their calls cannot be observed.

        Args:
            parts: dotted name → submodule.
        """
        scripted = next((name for name, part in parts.items() if isinstance(part, torch.jit.ScriptModule)), None)
        if scripted is not None:
            raise ConfigError(
                f"{scripted or type(self.module).__name__} is scripted, so nothing inside it can be read; explain the "
                "nn.Module that it was made from, or use saliency, integrated_gradients or occlusion"
            )

    def targets(self, target: Target, scores: Tensor) -> Tensor:
        """Resolve a target to the class index of each sample, [B] int64, or to [B, 2] for contrasts.

        Args:
            target: class index or name, one per sample or one for all, or None for the predicted class.
            scores: [B, K] of the unchanged inputs.

        Raises:
            ConfigError: a class that does not exist, or a wrong number of classes.
            ExplanationError: scores that are not finite, or a class contrasted with itself.
        """
        return resolve_targets(target, scores, self.about.classes)

    def describe_column(self, scores: Tensor) -> tuple[str, ...]:
        """Return a note for the reader on a single column of scores of a module that does not name its classes."""
        if scores.shape[1] > 1 or isinstance(self.module, ExplainableModule):
            return ()
        return ("one column of scores, taken as the logit of class 1; target=1 explains the value of a regression",)

    def target_scores(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the score of each row's target, [n]; a single column is the score of class 1, its negative of 0.

        Args:
            scores: [n, K].
            target: [n] class, or [n, 2] class and the class that it is contrasted with, whose score is subtracted. A
                single column is already the difference of its two classes.
        """
        if target.ndim == 2 and scores.shape[1] > 1:
            return scores.gather(1, target) @ scores.new_tensor([1.0, -1.0])
        first = target if target.ndim == 1 else target[:, 0]
        if scores.shape[1] == 1:
            return scores[:, 0] * (2 * first - 1).to(scores)
        return scores.gather(1, first[:, None])[:, 0]

    def probabilities(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the calibrated probability of each row's target, [n] in [0, 1].

        Args:
            scores: [n, K].
            target: [n] class; or [n, 2] for the probability of the first class if only these two were possible.
        """
        if target.ndim == 2:
            return (self.target_scores(scores.detach(), target) / self.about.temperature).sigmoid()
        return self.class_probabilities(scores).gather(1, target[:, None])[:, 0]

    def class_probabilities(self, scores: Tensor) -> Tensor:
        """Return the calibrated probability of every class, [n, K], or [n, 2] for a single column of scores."""
        return calibrated_probability(scores.detach(), self.about.temperature, multi_label=self.about.multi_label)

    def _check(self, given: Mapping[str, Tensor]) -> None:
        kind = type(self.module).__name__
        shapes = ", ".join(f"{name} {tuple(one.shape)}" for name, one in given.items())
        missing = [name for name in self.about.inputs if name not in given]
        if missing:
            raise ConfigError(
                f"{kind} explains the inputs {', '.join(self.about.inputs)}; missing: {', '.join(missing)}"
            )
        wrong = [name for name in self.about.inputs if given[name].ndim not in (4, 5)]
        if wrong or not self.about.inputs:
            raise ConfigError(f"{kind} got {shapes}; expected images [B, C, H, W] or volumes [B, C, D, H, W]")
        if len({len(tensor) for tensor in given.values()}) > 1 or not all(map(len, given.values())):
            raise ConfigError(f"{kind} got {shapes}; expected equal batch sizes, at least 1")
        whole = [name for name in self.about.inputs if not given[name].is_floating_point()]
        if whole:
            listed = ", ".join(f"{name} {_name_dtype(given[name].dtype)}" for name in whole)
            raise ConfigError(f"{kind} got {listed}; expected floating-point images, e.g. image.float() / 255")

    def _describe_call(self, given: Mapping[str, Tensor]) -> str:
        """Describe the module with its own dtype and the shapes and dtypes that it got."""
        dtypes = {value.dtype for value in self.module.parameters() if value.is_floating_point()}
        own = f" ({', '.join(sorted(map(_name_dtype, dtypes)))})" if dtypes else ""
        listed = ", ".join(f"{name} {tuple(one.shape)} {_name_dtype(one.dtype)}" for name, one in given.items())
        return f"{type(self.module).__name__}{own} with {listed}"


def _name_dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _get_last_line(error: Exception) -> str:
    """Return the last line of an error's message, which scripted modules put after their own traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _name_inputs(inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    """Name inputs as the module does, or `image`, or `input_0`, `input_1` and so on."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    single = not isinstance(inputs, tuple | list)
    listed: list[Any] = [inputs] if single else list(inputs)
    if not names:
        names = ["image"] if single else [f"input_{number}" for number in range(len(listed))]
    if len(names) != len(listed):
        raise ConfigError(f"{len(listed)} inputs for {', '.join(names)}; expected one for each, or a dict")
    return dict(zip(names, listed, strict=True))


def _sort_as_called(module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sort named inputs as in the signature of `forward`, which is assumed to be the order of processing."""
    try:
        order = list(signature(module.forward).parameters)
    except ValueError:  # scripted modules have none
        return given
    return dict(sorted(given.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(given)))
