"""Calling a class of Captum so that it fits any subject and leaves nothing behind.

Any attribution of Captum, by its name there.
"""

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
from seewhy.explain.baseline import WORDS, Baseline, check_baseline, describe_baseline, make_baseline
from seewhy.explain.capture.layers import Layers, resolve_layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, sum_channels
from seewhy.explain.grid import arrange_by_sample, enlarge, join_slices, to_grid
from seewhy.explain.maps import Reading

__all__ = ["CaptumCall", "CaptumMethod", "list_captum_classes"]

Parts: TypeAlias = "dict[str, Tensor]"


class CaptumMethod(GradientExplainer):
    """Maps by a class of `captum.attr`, for methods that have no class here.

    All inputs go in together, unless the class wants a layer: then one after the other, each with its own layer, the
    others held as they are. Captum works target by target. Classes that draw are given one sample at a time, each
    with the same seed, so that a map depends neither on its batch nor on what was drawn before.

    Args:
        attribution: the class, e.g. "GuidedBackprop", "GuidedGradCam", "Deconvolution", "LRP", "FeatureAblation",
            "KernelShap".
        arguments: further arguments of its `attribute()`, plain data, e.g. {n_samples: 50}.
        layer: where the class wants one: a layer's dotted name, one per input, or by input; None is what the module
            says of itself.
        baseline: x0, where the class takes one; None is zero.
        patch: side in voxels of the squares or cubes that are one feature, where the class takes a feature mask;
            None makes every pixel of every channel one, which few images are small enough for.
        reading: what of the signed map speaks for the target.
        seed: of what Captum draws.
        name: what the maps are called; None makes it of `attribution`, e.g. "guided_backprop".
        memory_budget: what the samples of one chunk may take.

    Raises:
        ConfigError: an unknown class, arguments that it does not take or that are given here by other names, or an
            option that means nothing to it.
    """

    seed: int

    def __init__(
        self,
        *,
        attribution: str,
        arguments: Mapping[str, Any] | None = None,
        layer: Layers = None,
        baseline: Baseline | None = None,
        patch: int | None = None,
        reading: Reading = "positive",
        seed: int = 0,
        name: str | None = None,
        memory_budget: int | str = "1GiB",
    ) -> None:
        super().__init__(memory_budget=memory_budget)
        if reading not in get_args(Reading):
            raise ConfigError(f"reading={reading!r} is unknown; {nearest(str(reading), get_args(Reading))}")
        if patch is not None and patch < 1:
            raise ConfigError(f"patch={patch}; expected at least 1, or null")
        self.call = CaptumCall(attribution, arguments or {}, seed=seed)
        meant = {"layer": layer, "baseline": baseline, "patch": patch}
        stray = [option for option, value in meant.items() if value is not None and not self.call.takes(option)]
        if stray:
            raise ConfigError(f"{attribution} takes no {' and no '.join(stray)}; leave out {', '.join(stray)}")
        self.layer, self.patch, self.reading, self.seed = layer, patch, reading, seed
        self.start = None if baseline is None else check_baseline(baseline)
        self.baseline = None
        if self.call.takes("baseline"):
            self.baseline = WORDS["zero"] if baseline is None else describe_baseline(baseline)
        self.method = name or self.call.plain_name

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`.

        Raises:
            ConfigError: the module cannot be what the class needs, e.g. it has no ReLU to guide.
            ExplanationError: Captum refuses the module.
        """
        self.call.check(subject)
        layers = resolve_layers(subject, self.layer) if self.call.takes("layer") else {}
        names = [name for name, _ in layers.values()]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ConfigError(f"{twice[0]} runs for several inputs, and Captum sees only its last run; use grad_cam")
        chunk = 1 if self.call.draws else self.budget.gradient_rows(subject)
        found = []
        for target in targets:
            parts = [
                self._part(subject, rows, target[rows], layers)
                for rows in torch.arange(subject.batch, device=target.device).split(chunk)
            ]
            maps = {name: torch.cat([part[0][name] for part in parts]) for name in parts[0][0]}
            notes = tuple(dict.fromkeys(note for part in parts for note in part[1]))
            named = {name: layer for name, (layer, _) in layers.items()}
            found.append(Attribution(maps=maps, layers=named, notes=notes))
        return found

    def _part(
        self, subject: ExplainedModel, rows: Tensor, target: Tensor, layers: Mapping[str, tuple[str, torch.nn.Module]]
    ) -> tuple[Parts, tuple[str, ...]]:
        """Maps of some samples, and what a reader must know of them."""
        images = {name: image[rows] for name, image in subject.inputs.items()}
        if not layers:
            found = self.call(subject, images, rows, target, options=self._options(images))
            return {name: sum_channels(one) for name, one in found.items()}, ()
        maps: Parts = {}
        notes: list[str] = []
        for name, (_, layer) in layers.items():
            one = {name: images[name]}
            options = self._options(one)
            raw = self.call(subject, one, rows, target, layer=layer, options=options)[name]
            maps[name], said = _at_image_size(raw, images[name])
            notes += said
        return {name: maps.get(name, torch.zeros_like(image[:, 0])) for name, image in images.items()}, tuple(notes)

    def _options(self, images: Parts) -> dict[str, Any]:
        """What Captum takes as tensors, a tuple over the images each."""
        options: dict[str, Any] = {}
        if self.start is not None:
            options["baselines"] = tuple(make_baseline(image, self.start) for image in images.values())
        if self.patch is not None:
            first, masks = 0, []
            for image in images.values():
                mask = _patches(image, self.patch) + first
                first = int(mask.max()) + 1
                masks.append(mask)
            options["feature_mask"] = tuple(masks)
        return options


def _patches(image: Tensor, side: int) -> Tensor:
    """[1, C, *spatial] number of the patch of each voxel, the same for all channels."""
    number = torch.zeros(image.shape[2:], dtype=torch.long, device=image.device)
    for axis, size in enumerate(image.shape[2:]):
        steps = torch.arange(size, device=image.device) // side
        number = number * (-(-size // side)) + steps.reshape(-1, *[1] * (image.ndim - 3 - axis))
    return number.expand(1, *image.shape[1:]).contiguous()


def _at_image_size(raw: Tensor, image: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Attributions of a layer's output, or of the image already, as [B, *spatial]."""
    if raw.shape == image.shape:
        return sum_channels(raw), ()
    coarse, notes = arrange_by_sample(sum_channels(join_slices(to_grid(raw, image), image)), image)
    return enlarge(coarse, image.shape[2:]), notes


OURS = ("inputs", "target", "additional_forward_args", "baselines", "feature_mask", "return_convergence_delta")
"""Arguments of `attribute()` that are not for the user to give."""
NEEDS = {"layer": ("__init__", "layer"), "baseline": ("attribute", "baselines"), "patch": ("attribute", "feature_mask")}
DRAWING = ("GradientShap", "LayerGradientShap", "Lime", "KernelShap", "ShapleyValueSampling", "ShapleyValues")
GUIDED = ("GuidedBackprop", "Deconvolution", "GuidedGradCam")
"""Classes that change the gradients of `nn.ReLU`, and of nothing else."""
UNFIT = {
    **dict.fromkeys(
        ("DeepLift", "DeepLiftShap", "LayerDeepLift", "LayerDeepLiftShap"),
        "it passes over functions without a rule in silence; use deep_lift",
    ),
    **dict.fromkeys(("FeaturePermutation", "LayerFeaturePermutation"), "its maps depend on the rest of the batch"),
    "ShapleyValues": "it tries every order of all features; use ShapleyValueSampling",
}
"""Classes that are not lent out, and why."""


class CaptumCall:
    """One class of `captum.attr`.

    Args:
        attribution: its name.
        arguments: of its `attribute()`.
        seed: of what it draws.

    Attributes:
        draws: whether maps depend on random numbers.

    Raises:
        ConfigError: an unknown class, or arguments that it does not take.
    """

    def __init__(self, attribution: str, arguments: Mapping[str, Any], *, seed: int) -> None:
        import captum.attr

        known = list_captum_classes()
        if attribution in UNFIT:
            raise ConfigError(f"attribution={attribution!r} is not offered: {UNFIT[attribution]}")
        if attribution not in known:
            raise ConfigError(f"Captum has no attribution {attribution!r} for images; {nearest(attribution, known)}")
        self.attribution, self.arguments, self.seed = attribution, dict(arguments), seed
        self.kind: Any = getattr(captum.attr, attribution)
        self.draws = attribution in DRAWING
        taken = inspect.signature(self.kind.attribute).parameters
        free = [name for name in taken if name not in ("self", "kwargs", *OURS)]
        wrong = [f"{name!r} ({nearest(name, free)})" for name in self.arguments if name not in free]
        if wrong:
            raise ConfigError(f"arguments of {attribution} that are not to be given: {', '.join(wrong)}")

    @property
    def plain_name(self) -> str:
        """The class as methods are called here, e.g. `guided_backprop`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.attribution).lower()

    def takes(self, option: str) -> bool:
        """Whether a layer, a baseline or patches mean anything to it."""
        function, name = NEEDS[option]
        return name in inspect.signature(getattr(self.kind, function)).parameters

    def check(self, subject: ExplainedModel) -> None:
        """Refuse a module for which the method would be another one in silence.

        Raises:
            ConfigError: nothing to guide.
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
                f"{type(subject.module).__name__} runs no nn.ReLU, the only function that {self.attribution} guides: "
                "its maps would be plain gradients; use saliency"
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
        """Attributions of some samples.

        Args:
            subject: module and batch.
            images: input → [n, C, *spatial]; inputs that are not among them are held as they are.
            rows: [n] the sample each row was made of.
            target: [n] int64.
            layer: where the class wants one.
            options: baselines and feature masks, a tuple over the images each.

        Returns:
            Input → [n, C, *spatial], or what the layer has.

        Raises:
            ConfigError: a package that Captum needs is missing.
            ExplanationError: Captum refuses.
        """
        model = _Scores(subject, tuple(images))
        given = {"target": target, "additional_forward_args": (rows,), **options, **self.arguments}
        taken = inspect.signature(self.kind.attribute).parameters
        inputs = tuple(image.detach().clone().requires_grad_() for image in images.values())
        with restore_module(model), _seeded(self.seed, rows.device), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"captum\.")
            try:
                method: Any = self.kind(model) if layer is None else self.kind(model, layer)
                found = method.attribute(inputs, **{name: one for name, one in given.items() if name in taken})
            except torch.OutOfMemoryError:
                raise
            except ImportError as error:
                raise ConfigError(f"captum.attr.{self.attribution}: {error}") from error
            except Exception as error:  # Captum raises whatever its parts do, assertions among them
                kind = type(subject.module).__name__
                raise ExplanationError(f"captum.attr.{self.attribution} refuses {kind}: {error}") from error
        results = found if isinstance(found, tuple) else (found,)
        if len(results) != len(images) or any(one is None or not one.numel() for one in results):
            raise ExplanationError(f"captum.attr.{self.attribution} gave no map for {', '.join(images)}")
        return {name: one.detach() for name, one in zip(images, results, strict=True)}


def list_captum_classes() -> list[str]:
    """Classes of `captum.attr` that make a map of an image from a model, or from a model and a layer."""
    import captum.attr

    found = []
    for name in captum.attr.__all__:
        kind: Any = getattr(captum.attr, name)
        usable = isinstance(kind, type) and callable(getattr(kind, "attribute", None))
        if not usable or name in UNFIT:
            continue
        wanted = {*_required(kind.__init__), *_required(kind.attribute)}
        if wanted <= {"model", "forward_func", "layer", "inputs", "baselines"}:
            found.append(name)
    return found


def _required(function: Any) -> list[str]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]


class _Scores(nn.Module):
    """A subject as Captum calls models: images one after the other, then the rows; at least two columns of scores."""

    def __init__(self, subject: ExplainedModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = subject.module  # Captum looks through a model's children
        self._subject, self._names = [subject], names

    def forward(self, *values: Tensor) -> Tensor:
        """[n, K], K ≥ 2."""
        subject, rows = self._subject[0], values[-1].long()
        given = dict(zip(self._names, values[:-1], strict=True))
        # Those that are held need gradients too: Captum hangs hooks on all activations.
        images = {
            name: given[name] if name in given else whole[rows].requires_grad_()
            for name, whole in subject.inputs.items()
        }
        scores = subject.scores(images, rows=rows)
        return torch.cat([-scores, scores], dim=1) if scores.shape[1] == 1 else scores


@contextmanager
def restore_module(module: nn.Module) -> Iterator[None]:
    """Afterwards every part has the attributes, hooks and parameter values from before, whatever happened.

    Meanwhile activations are not in place, since backward hooks cannot be put around those that are.
    """
    parts = list(module.modules())
    before = [(part, dict(part.__dict__)) for part in parts]
    tables = [table for _, own in before for table in own.values() if isinstance(table, dict)]
    contents = [(table, dict(table)) for table in tables]
    values = [(parameter, parameter.data) for parameter in module.parameters()]
    try:
        for part in parts:
            if getattr(part, "inplace", False) is True:
                part.inplace = False  # type: ignore[assignment]
        yield
    finally:
        for part, own in before:
            part.__dict__.clear()
            part.__dict__.update(own)
        for table, content in contents:
            table.clear()
            table.update(content)
        for parameter, value in values:
            parameter.data = value


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of PyTorch, NumPy and Python from a seed, and their states put back."""
    numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
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
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)
