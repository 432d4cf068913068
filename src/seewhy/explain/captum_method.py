"""Any attribution of Captum, by its name there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, get_args

import torch
from torch import Tensor

from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Attribution
from seewhy.explain.baseline import WORDS, Baseline, checked, described, reference
from seewhy.explain.captum_call import CaptumCall
from seewhy.explain.capture.layers import Layers, resolve_layers
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, channel_sum
from seewhy.explain.grid import as_grid, enlarge, join_slices, place
from seewhy.explain.maps import Reading

__all__ = ["CaptumMethod"]

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
        self.start = None if baseline is None else checked(baseline)
        self.baseline = None
        if self.call.takes("baseline"):
            self.baseline = WORDS["zero"] if baseline is None else described(baseline)
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
            return {name: channel_sum(one) for name, one in found.items()}, ()
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
            options["baselines"] = tuple(reference(image, self.start) for image in images.values())
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
        return channel_sum(raw), ()
    coarse, notes = place(channel_sum(join_slices(as_grid(raw, image), image)), image)
    return enlarge(coarse, image.shape[2:]), notes
