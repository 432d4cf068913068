"""Attributions of Captum, chosen by class name."""

from __future__ import annotations

import inspect
import random
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, ExplanationError, nearest
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import DESCRIPTIONS, Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.capture.layers import Layers, resolve_layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, sum_channels
from seewhy.explain.grid import arrange_by_sample, enlarge, join_slices, number_patches, to_grid
from seewhy.explain.maps import Reading
from seewhy.option_types import MemorySize, PositiveInt, Seed
from seewhy.options import check_choice

__all__ = ["CaptumCall", "CaptumMethod", "list_captum_classes"]

Images: TypeAlias = "dict[str, Tensor]"


class CaptumMethod(GradientExplainer):
    """Maps of a class of `captum.attr`, for methods without their own class in seewhy.

    All inputs are attributed together, unless the class needs a layer: then one after the other, each with its own
    layer, while the other inputs are held constant. Targets are processed one at a time. Classes that draw random
    numbers get one sample at a time, each with the same seed, so that a map does not depend on the rest of the batch.

    Args:
        attribution: name of the class, e.g. "GuidedBackprop", "GuidedGradCam", "Deconvolution", "LRP",
            "FeatureAblation", "KernelShap".
        arguments: further arguments of its `attribute()`, as plain data, e.g. {n_samples: 50}.
        layer: for classes that need a layer: dotted name, one per input, or a mapping by input; None is the layer in
            the module's `explainable()`.
        baseline: x0, for classes with a baseline; None is zero.
        patch: for classes with a feature mask: side in voxels of the squares or cubes that form one feature; None
            makes every pixel of every channel a feature, which is feasible for very small images only.
        reading: which part of the signed map is evidence for the target.
        seed: seed of Captum's random draws.
        name: name of the method; None derives it from `attribution`, e.g. "guided_backprop".
        memory_budget: memory limit of the samples of one chunk.

    Raises:
        ConfigError: an unknown class, arguments that it does not take or that have their own option here, or an
            option that does not apply to it.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import CaptumMethod
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
        >>> maps = CaptumMethod(attribution="GuidedBackprop")(net, torch.rand(1, 1, 4, 4), target=1)
        >>> maps.method, maps.maps["image"].shape
        ('guided_backprop', torch.Size([1, 4, 4]))
    """

    seed: int

    def __init__(
        self,
        *,
        attribution: str,
        arguments: Mapping[str, Any] | None = None,
        layer: Layers = None,
        baseline: Baseline | None = None,
        patch: PositiveInt | None = None,
        reading: Reading = "positive",
        seed: Seed = 0,
        name: str | None = None,
        memory_budget: MemorySize = "1GiB",
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        check_choice(reading, get_args(Reading), "reading")
        if patch is not None and patch < 1:
            raise ConfigError(f"patch={patch}; expected at least 1, or null")
        self.call = CaptumCall(attribution, arguments or {}, seed=seed)
        optional = {"layer": layer, "baseline": baseline, "patch": patch}
        wrong = [option for option, value in optional.items() if value is not None and not self.call.takes(option)]
        if wrong:
            raise ConfigError(f"options that do not apply to {attribution}: {', '.join(wrong)}; remove them")
        self.layer, self.patch, self.reading, self.seed = layer, patch, reading, seed
        self.start = None if baseline is None else check_baseline(baseline)
        self.baseline = None
        if self.call.takes("baseline"):
            self.baseline = DESCRIPTIONS["zero"] if baseline is None else describe_baseline(baseline)
        self.method = name or self.call.plain_name

    def chosen_parts(self) -> object:
        """See `Explainer.chosen_parts`."""
        return self.layer

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`.

        Raises:
            ConfigError: the class does not apply to the module, e.g. guided backpropagation without a ReLU.
            ExplanationError: Captum raises an error for the module.
        """
        self.call.check(subject)
        layers = resolve_layers(subject, self.layer) if self.call.takes("layer") else {}
        names = [name for name, _ in layers.values()]
        repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if repeated:
            raise ConfigError(f"{repeated[0]} runs for several inputs, but Captum sees only its last run; use grad_cam")
        chunk = 1 if self.call.draws else self.budget.gradient_rows(subject)
        attributions = []
        for target in targets:
            parts = [
                self._attribute_rows(subject, rows, target[rows], layers)
                for rows in torch.arange(subject.batch, device=target.device).split(chunk)
            ]
            maps = {name: torch.cat([part[0][name] for part in parts]) for name in parts[0][0]}
            notes = tuple(dict.fromkeys(note for part in parts for note in part[1]))
            named = {name: layer for name, (layer, _) in layers.items()}
            attributions.append(Attribution(maps=maps, layers=named, notes=notes))
        return attributions

    def _attribute_rows(
        self, subject: ExplainedModel, rows: Tensor, target: Tensor, layers: Mapping[str, tuple[str, torch.nn.Module]]
    ) -> tuple[Images, tuple[str, ...]]:
        """Return the maps of some samples, and notes for the reader."""
        images = {name: image[rows] for name, image in subject.inputs.items()}
        if not layers:
            raw = self.call(subject, images, rows, target, options=self._make_tensor_options(images))
            return {name: sum_channels(values) for name, values in raw.items()}, ()
        maps: Images = {}
        notes: list[str] = []
        for name, (_, layer) in layers.items():
            image = {name: images[name]}
            options = self._make_tensor_options(image)
            raw = self.call(subject, image, rows, target, layer=layer, options=options)
            maps[name], new = _resize_to_image(raw[name], images[name])
            notes += new
        return {name: maps.get(name, torch.zeros_like(image[:, 0])) for name, image in images.items()}, tuple(notes)

    def _make_tensor_options(self, images: Images) -> dict[str, Any]:
        """Make Captum's baselines and feature masks, each a tuple over the images."""
        options: dict[str, Any] = {}
        if self.start is not None:
            options["baselines"] = tuple(make_baseline(image, self.start) for image in images.values())
        if self.patch is not None:
            first, masks = 0, []
            for image in images.values():
                mask = number_patches(image, self.patch) + first
                first = int(mask.max()) + 1
                masks.append(mask)
            options["feature_mask"] = tuple(masks)
        return options


def _resize_to_image(raw: Tensor, image: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Convert attributions of a layer's output or of the image to [B, *spatial]."""
    if raw.shape == image.shape:
        return sum_channels(raw), ()
    coarse, notes = arrange_by_sample(sum_channels(join_slices(to_grid(raw, image), image)), image)
    return enlarge(coarse, image.shape[2:]), notes


RESERVED = ("inputs", "target", "additional_forward_args", "baselines", "feature_mask", "return_convergence_delta")
"""Arguments of `attribute()` that seewhy sets."""
NEEDS = {"layer": "layer", "baseline": "baselines", "patch": "feature_mask"}
DRAWING = ("GradientShap", "LayerGradientShap", "Lime", "KernelShap", "ShapleyValueSampling", "ShapleyValues")
GUIDED = ("GuidedBackprop", "Deconvolution", "GuidedGradCam")
"""Classes that change only the gradients of `nn.ReLU`."""
EXCLUDED = {
    **dict.fromkeys(
        ("DeepLift", "DeepLiftShap", "LayerDeepLift", "LayerDeepLiftShap"),
        "it ignores functions without a rule silently; use deep_lift",
    ),
    **dict.fromkeys(("FeaturePermutation", "LayerFeaturePermutation"), "its maps depend on the rest of the batch"),
    "ShapleyValues": "it tries every order of all features; use ShapleyValueSampling",
}
"""Classes that are not offered, with the reason."""


class CaptumCall:
    """Call of one class of `captum.attr` for any module; restores the module and the random states.

    Args:
        attribution: name of the class.
        arguments: arguments of its `attribute()`.
        seed: seed of its random draws.

    Attributes:
        draws: whether maps depend on random numbers.

    Raises:
        ConfigError: an unknown class, or arguments that it does not take.
    """

    def __init__(self, attribution: str, arguments: Mapping[str, Any], *, seed: int) -> None:
        if attribution in EXCLUDED:
            raise ConfigError(f"attribution={attribution!r} is not offered: {EXCLUDED[attribution]}")
        kinds = list_captum_classes()
        if attribution not in kinds:
            raise ConfigError(f"Captum has no attribution {attribution!r} for images; {nearest(attribution, kinds)}")
        self.attribution, self.arguments, self.seed = attribution, dict(arguments), seed
        self.kind: Any = kinds[attribution]
        self.draws = attribution in DRAWING
        parameters = inspect.signature(self.kind.attribute).parameters
        valid = [name for name in parameters if name not in ("self", "kwargs", *RESERVED)]
        wrong = [f"{name!r} ({nearest(name, valid)})" for name in self.arguments if name not in valid]
        if wrong:
            raise ConfigError(f"unknown arguments of {attribution}: {', '.join(wrong)}")

    @property
    def plain_name(self) -> str:
        """Name of the method in seewhy's style, e.g. `guided_backprop`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.attribution).lower()

    def takes(self, option: str) -> bool:
        """Whether the class takes a layer, a baseline or patches."""
        function = self.kind.__init__ if option == "layer" else self.kind.attribute
        return NEEDS[option] in inspect.signature(function).parameters

    def check(self, subject: ExplainedModel) -> None:
        """Check that a method that guides ReLUs has a ReLU; otherwise it would return plain gradients.

        Raises:
            ConfigError: the module runs no `nn.ReLU`.
        """
        if self.attribution not in GUIDED:
            return
        calls: list[int] = []
        relus = [part for part in subject.module.modules() if isinstance(part, nn.ReLU)]
        hooks = [relu.register_forward_hook(lambda *_: calls.append(1)) for relu in relus]
        try:
            with torch.no_grad():
                subject.scores(subject.inputs)
        finally:
            for hook in hooks:
                hook.remove()
        if not calls:
            raise ConfigError(
                f"{type(subject.module).__name__} runs no nn.ReLU, the only function that {self.attribution} changes; "
                "its maps would be plain gradients: use saliency"
            )

    def __call__(
        self,
        subject: ExplainedModel,
        images: Mapping[str, Tensor],
        rows: Tensor,
        target: Tensor,
        *,
        layer: nn.Module | None = None,
        options: Mapping[str, Any],
    ) -> dict[str, Tensor]:
        """Compute the attributions of some samples.

        Args:
            subject: module and batch.
            images: input → [n, C, *spatial]; other inputs are held constant.
            rows: [n] sample that each row was made from.
            target: [n] int64, or [n, 2] for contrasts.
            layer: for classes that need a layer.
            options: baselines and feature masks, each a tuple over the images.

        Returns:
            Input → [n, C, *spatial], or the shape of the layer's output.

        Raises:
            ConfigError: a package that Captum needs is missing.
            ExplanationError: Captum raises an error.
        """
        pairs = target.new_zeros(subject.batch, 2).index_copy(0, rows, target) if target.ndim == 2 else None
        model = _Scores(subject, tuple(images), pairs)
        given = {
            "target": target if target.ndim == 1 else 1,
            "additional_forward_args": (rows,),
            **options,
            **self.arguments,
        }
        parameters = inspect.signature(self.kind.attribute).parameters
        inputs = tuple(image.detach().clone().requires_grad_() for image in images.values())
        with restore_module(model), _seed_all(self.seed, rows.device), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"captum\.")
            try:
                method: Any = self.kind(model) if layer is None else self.kind(model, layer)
                result = method.attribute(inputs, **{name: one for name, one in given.items() if name in parameters})
            except torch.OutOfMemoryError:
                raise
            except ImportError as error:
                raise ConfigError(f"captum.attr.{self.attribution}: {error}") from error
            except Exception as error:  # Captum lets any error of its parts pass, including assertions
                kind = type(subject.module).__name__
                raise ExplanationError(f"captum.attr.{self.attribution} fails for {kind}: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        if len(results) != len(images) or any(one is None or not one.numel() for one in results):
            raise ExplanationError(f"captum.attr.{self.attribution} returned no map for {', '.join(images)}")
        return {name: one.detach() for name, one in zip(images, results, strict=True)}


def list_captum_classes() -> dict[str, Any]:
    """Return name → class of those of Captum that make a map of an image from a model, or from a model and a layer."""
    import captum.attr

    kinds: dict[str, Any] = {}
    for name in captum.attr.__all__:
        kind: Any = vars(captum.attr)[name]
        usable = isinstance(kind, type) and callable(getattr(kind, "attribute", None))  # base classes only annotate it
        if not usable or name in EXCLUDED:
            continue
        required = {*_required_parameters(kind.__init__), *_required_parameters(kind.attribute)}
        if required <= {"model", "forward_func", "layer", "inputs", "baselines"}:
            kinds[name] = kind
    return kinds


def _required_parameters(function: Any) -> list[str]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]


class _Scores(nn.Module):
    """Adapter to Captum's calls: images by position, then the rows; two or more scores; `pairs` [B, 2] of contrasts."""

    def __init__(self, subject: ExplainedModel, names: tuple[str, ...], pairs: Tensor | None) -> None:
        super().__init__()
        self._pairs = pairs
        self.module = subject.module  # Captum searches a model's children
        self._subject, self._names = [subject], names

    def forward(self, *values: Tensor) -> Tensor:
        """Compute scores [n, K], K ≥ 2."""
        subject, rows = self._subject[0], values[-1].long()
        given = dict(zip(self._names, values[:-1], strict=True))
        # Constant images need gradients, too: Captum registers hooks on all activations.
        images = {
            name: given[name] if name in given else whole[rows].requires_grad_()
            for name, whole in subject.inputs.items()
        }
        scores = subject.scores(images, rows=rows)
        if self._pairs is not None:
            scores = subject.target_scores(scores, self._pairs[rows])[:, None]
        return torch.cat([-scores, scores], dim=1) if scores.shape[1] == 1 else scores


@contextmanager
def restore_module(module: nn.Module) -> Iterator[None]:
    """Restore attributes, hooks and parameter values of every submodule afterwards, also after an error.

    In between, activations are not in place, since backward hooks do not work with in-place activations.
    """
    parts = list(module.modules())
    before = [(part, dict(part.__dict__)) for part in parts]
    tables = [table for _, attributes in before for table in attributes.values() if isinstance(table, dict)]
    contents = [(table, dict(table)) for table in tables]
    values = [(parameter, parameter.data) for parameter in module.parameters()]
    try:
        for part in parts:
            if part.__dict__.get("inplace") is True:
                part.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for part, attributes in before:
            part.__dict__.clear()
            part.__dict__.update(attributes)
        for table, content in contents:
            table.clear()
            table.update(content)
        for parameter, value in values:
            parameter.data = value


@contextmanager
def _seed_all(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch, NumPy and Python, and restore their states afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    cuda = [device.index or 0] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.default_generator.manual_seed(seed)
            for number in cuda:
                with torch.cuda.device(number):
                    torch.cuda.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
