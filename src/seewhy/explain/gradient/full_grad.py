"""FullGrad: the score as the sum of input times gradient and of every layer's bias times gradient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d, interpolate

from seewhy.errors import ConfigError
from seewhy.explain.base import Attribution
from seewhy.explain.capture.layers import named_parts
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, Images, sum_channels
from seewhy.explain.grid import arrange_by_sample
from seewhy.explain.maps import compute_completeness_error

__all__ = ["FullGrad", "enlarge_keeping_sum"]

HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout2d, nn.Dropout3d,
    nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.Upsample,
)  # fmt: skip
"""Layers f with f(x) = J x, which have no bias."""
Run = tuple[nn.Module, int]
"""A layer, and the number of its call."""


@dataclass
class _Biases:
    """Outputs of layers in one forward, and the part of each that is not linear in the layer's input."""

    calls: Counter[nn.Module] = field(default_factory=Counter)
    parts: dict[Run, tuple[Tensor, Tensor]] = field(default_factory=dict)
    waiting: dict[nn.Module, Tensor] = field(default_factory=dict)


class FullGrad(GradientExplainer):
    """Input times gradient, plus bias times gradient of every layer (Srinivas and Fleuret 2019, equation 3).

    For piecewise linear networks the two sum to the score exactly. Biases of batch normalisation and of smooth
    functions (SiLU, GELU, sigmoid) are their implicit ones, f(x) − J x. A layer's part is summed over channels with its
    sign and spread over the pixels so that its sum remains; the paper's picture takes magnitudes and rescales each
    layer instead, and then sums to nothing. Biases of layers without positions, or that several inputs share, are in
    no map. `completeness` is the share of the score that is missing: not 0 where a network multiplies activations
    (squeeze-and-excitation, attention) outside of a layer.

    Args:
        memory_budget: memory limit of the rows of one chunk.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import FullGrad
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
        >>> maps = FullGrad()(net, torch.rand(2, 1, 8, 8), target=1)
        >>> torch.allclose(maps.maps["image"].sum(dim=(1, 2)), maps.scores[:, 1] - net[3].bias[1], atol=1e-5)
        True
    """

    method = "full_grad"
    baseline = "zero in the units of the normalised image, for the input's part"

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        subject.check_not_scripted(named_parts(subject.module))
        owners = _find_owners(subject)
        return self._attribute_in_chunks(subject, targets, partial(self._explain_rows, subject, owners))

    def _explain_rows(
        self, subject: ExplainedModel, owners: dict[Run, str], rows: Tensor, targets: Sequence[Tensor]
    ) -> list[tuple[Images, Tensor]]:
        """Return maps and completeness errors of some samples for each target."""
        images = {name: image[rows].requires_grad_() for name, image in subject.inputs.items()}
        with _collect_biases(subject.module) as biases:
            scores = subject.scores(images, rows=rows)
        leaves = [*images.values(), *(output for output, _ in biases.parts.values())]
        results = []
        for position, target in enumerate(targets):
            score = subject.target_scores(scores, target)
            last = position == len(targets) - 1
            slopes = torch.autograd.grad(score.sum(), leaves, retain_graph=not last, allow_unused=True)
            maps = {
                name: sum_channels(torch.zeros_like(image) if slope is None else slope * image.detach())
                for (name, image), slope in zip(images.items(), slopes, strict=False)
            }
            rest = torch.zeros(len(rows), dtype=torch.float64, device=score.device)
            for (run, (_, bias)), slope in zip(biases.parts.items(), slopes[len(images) :], strict=True):
                if slope is None:
                    continue
                part = (bias * slope).float()
                owner = owners.get(run)
                placed = None if owner is None else _place(part, images[owner])
                if owner is None or placed is None:
                    rest += part.reshape(len(rows), -1).sum(dim=1).double()
                else:
                    maps[owner] = maps[owner] + placed
            results.append((maps, compute_completeness_error(maps, score.detach(), rest)))
        return results


@contextmanager
def _collect_biases(module: nn.Module) -> Iterator[_Biases]:
    """Collect the biases of all layers that run within the block."""
    found = _Biases()

    def before(layer: nn.Module, args: tuple[object, ...]) -> None:
        x = args[0] if args else None
        if isinstance(x, Tensor) and len(args) == 1 and x.is_floating_point():
            found.waiting[layer] = _compute_bias(layer, x.detach())

    def after(layer: nn.Module, _: object, output: object) -> object:
        bias = found.waiting.pop(layer, None)
        if bias is None or not isinstance(output, Tensor) or not output.requires_grad:
            return output
        found.parts[layer, found.calls[layer]] = (output, bias)
        found.calls[layer] += 1
        return output.clone()  # the next layer may work in place

    leaves = [part for part in module.modules() if not list(part.children()) and not isinstance(part, HOMOGENEOUS)]
    hooks = [leaf.register_forward_pre_hook(before) for leaf in leaves]
    hooks += [leaf.register_forward_hook(after) for leaf in leaves]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _compute_bias(layer: nn.Module, x: Tensor) -> Tensor:
    """Compute f(x) − J x of a layer, in the shape of its output."""
    value, linear = torch.func.jvp(lambda one: layer.forward(one.clone()), (x,), (x,))[:2]
    return (value - linear).detach()


def _find_owners(subject: ExplainedModel) -> dict[Run, str]:
    """Find the runs of layers that depend on a single input, which is that of their part."""
    names = list(subject.inputs)
    first = torch.zeros(1, dtype=torch.long, device=next(iter(subject.inputs.values())).device)
    owners: dict[Run, list[str]] = {}
    for name in names:
        images = {key: image[:1].detach().clone() for key, image in subject.inputs.items()}
        images[name].requires_grad_()
        calls: Counter[nn.Module] = Counter()
        hooks = []

        def note(
            layer: nn.Module, _: object, output: object, name: str = name, calls: Counter[nn.Module] = calls
        ) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                owners.setdefault((layer, calls[layer]), []).append(name)
            calls[layer] += 1

        try:
            hooks = [part.register_forward_hook(note) for part in subject.module.modules()]
            subject.scores(images, rows=first)
        finally:
            for hook in hooks:
                hook.remove()
    return {run: found[0] for run, found in owners.items() if len(found) == 1}


def _place(part: Tensor, image: Tensor) -> Tensor | None:
    """Spread a layer's part [N, C, *s] over the pixels of an image; None for a layer without positions."""
    if part.ndim not in (4, 5):
        return None
    try:
        coarse, _ = arrange_by_sample(part.sum(dim=1), image)
    except ConfigError:
        return None
    return enlarge_keeping_sum(coarse, image.shape[2:])


def enlarge_keeping_sum(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """Spread maps [B, *s] over a larger grid without changing their sums: the adjoint of averaging down.

    Example:
        >>> import torch
        >>> from seewhy.explain.gradient.full_grad import enlarge_keeping_sum
        >>> enlarge_keeping_sum(torch.tensor([[[1.0, 3.0]]]), (1, 4)).sum()
        tensor(4.)
    """
    if tuple(coarse.shape[1:]) == tuple(size):
        return coarse
    probe = torch.zeros(len(coarse), 1, *size, device=coarse.device, requires_grad=True)
    with torch.enable_grad():
        if len(size) == 2:
            small = interpolate(probe, size=coarse.shape[1:], mode="bilinear", antialias=True, align_corners=False)
        else:
            small = adaptive_avg_pool3d(probe, [*coarse.shape[1:]])  # type: ignore[arg-type]
        return torch.autograd.grad(small, probe, coarse[:, None].to(probe))[0][:, 0]
