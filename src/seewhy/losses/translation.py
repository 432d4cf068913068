"""All that an unpaired translation in one direction is measured by, with its weights.

How far an image is from what it should be, in the foreground.

What a generator and a discriminator want of the discriminator's scores.

The contrastive loss of patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from seewhy.errors import ConfigError, nearest

__all__ = [
    "TERMS",
    "AdversarialLoss",
    "PatchNCELoss",
    "TranslationLoss",
    "absolute_difference",
    "foreground_mean",
    "gradient_difference",
    "structural_dissimilarity",
]


def foreground_mean(values: Tensor, foreground: Tensor | None) -> Tensor:
    """Mean over the foreground of all samples and channels, in float32; 0 where there is none.

    Args:
        values: [B, C, H, W].
        foreground: [B, 1, H, W] bool; None is everywhere.
    """
    values = values.float()
    if foreground is None:
        return values.mean()
    count = foreground.sum() * values.shape[1]
    return torch.where(foreground, values, 0.0).sum() / count.clamp(min=1)


def absolute_difference(image: Tensor, target: Tensor, foreground: Tensor | None = None) -> Tensor:
    """Scalar mean of |image - target|; see `foreground_mean` for shapes."""
    return foreground_mean((image.float() - target.float()).abs(), foreground)


def structural_dissimilarity(
    image: Tensor, target: Tensor, foreground: Tensor | None = None, *, value_range: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """Scalar mean of 1 - SSIM (Wang 2004, eq. 13; Gaussian windows of 11 x 11, σ 1.5) at the foreground's pixels.

    SSIM compares means as ratios, so values are counted from the darkest possible one.

    Args:
        image: [B, C, H, W], sides of at least 6.
        target: the same.
        foreground: see `foreground_mean`; windows around its pixels reach beyond it.
        value_range: darkest and brightest value.
    """
    low, high = value_range
    # Variances are small differences of large numbers, for which half precision is too coarse.
    with torch.autocast(image.device.type, enabled=False):
        found = structural_similarity_index_measure(
            image.float() - low, target.float() - low, data_range=high - low, reduction="none", return_full_image=True
        )
    return foreground_mean(1 - found[1], foreground)


def gradient_difference(image: Tensor, target: Tensor, foreground: Tensor | None = None) -> Tensor:
    """Scalar mean of the absolute difference of slopes per pixel, by Sobel's filter over 8, across and down.

    Args:
        image: [B, C, H, W].
        target: the same.
        foreground: see `foreground_mean`.
    """
    padded = F.pad(image.float() - target.float(), (1, 1, 1, 1), mode="replicate")  # the filter is linear
    # Without a tensor of its numbers, which would be sent to a GPU in every step.
    down, across = (padded.diff(dim=axis) for axis in (2, 3))
    down, across = down[:, :, :-1] + down[:, :, 1:], across[..., :-1] + across[..., 1:]  # over two pixels
    slopes = (_smoothed(down, 3).abs() + _smoothed(across, 2).abs()) / 16
    return foreground_mean(slopes, foreground)


def _smoothed(values: Tensor, axis: int) -> Tensor:
    """Each line with its neighbours, by 1, 2, 1."""
    lines = values.unfold(axis, 3, 1)
    return lines[..., 0] + 2 * lines[..., 1] + lines[..., 2]


NAMES = ("lsgan", "hinge")


class AdversarialLoss(nn.Module):
    """Losses of score maps at one or more scales, whose mean is taken, in float32.

    `lsgan` (Mao 2017, eq. 9): squared distance of real scores from 1 and fake ones from 0; the generator's of its
    fakes' from 1. `hinge` (Lim and Ye 2017; Miyato 2018, eq. 16 and 17): real scores should be above 1 and fake ones
    below -1; the generator wants them high.

    Args:
        name: `lsgan` or `hinge`.
    """

    def __init__(self, name: str = "lsgan") -> None:
        super().__init__()
        if name not in NAMES:
            raise ConfigError(f"model.losses.adversarial={name!r} is unknown; {nearest(name, NAMES)}")
        self.name = name

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """Scalar loss of the generator.

        Args:
            fake: scores [B, 1, h, w] of its images, one map per scale, with graph.
        """
        if self.name == "lsgan":
            return _mean([(scores.float() - 1).square().mean() for scores in fake])
        return _mean([-scores.float().mean() for scores in fake])

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Scalar loss of the discriminator: that of real images plus that of fakes.

        Args:
            real: scores [B, 1, h, w] of real images, one map per scale.
            fake: the same of generated ones, made without a graph to the generator.
        """
        if self.name == "lsgan":
            losses = [
                (true.float() - 1).square().mean() + false.float().square().mean()
                for true, false in zip(real, fake, strict=True)
            ]
        else:
            losses = [
                (1 - true.float()).relu().mean() + (1 + false.float()).relu().mean()
                for true, false in zip(real, fake, strict=True)
            ]
        return _mean(losses)

    def extra_repr(self) -> str:
        """Which."""
        return self.name


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()


class PatchNCELoss(nn.Module):
    """A patch of a fake should be most like the patch it was made of (PatchNCE, Park 2020, eq. 3 and 4).

    Cross-entropy of telling that patch from the others of the same image, by cosine similarity over a temperature;
    mean over patches, images and maps.

    Args:
        temperature: τ, above 0.
    """

    def __init__(self, *, temperature: float = 0.07) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"model.losses.temperature={temperature} must be above 0")
        self.temperature = temperature

    def forward(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Tensor:
        """Scalar loss, in float32.

        Args:
            queries: unit vectors [B, P, dim] of the fake's patches, of each map.
            keys: those of the same places of its source; they give no gradient.
        """
        losses = []
        for query, key in zip(queries, keys, strict=True):
            with torch.autocast(query.device.type, enabled=False):
                logits = query.float() @ key.detach().float().mT / self.temperature
            right = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
            losses.append(F.cross_entropy(logits.flatten(0, 1), right.flatten()))
        return torch.stack(losses).mean()


TERMS = ("adversarial", "cycle", "identity", "ssim", "gradient", "nce")


class TranslationLoss(nn.Module):
    """The weighted terms of a generator's loss, each computed only where it has a weight.

    Written for the direction A → B:

    - `adversarial`: see `AdversarialLoss`;
    - `cycle`: mean |A - G_BA(G_AB(A))| (Zhu 2017, eq. 2);
    - `identity`: mean |A - G_BA(A)| (there, section 5.2);
    - `ssim` and `gradient`: 1 - SSIM and difference of slopes of the same reconstruction;
    - `nce`: see `PatchNCELoss`.

    All but the first and the last count the foreground only.

    Args:
        weights: term → factor ≥ 0; one that is not named has none.
        adversarial: `lsgan` or `hinge`.
        temperature: of `nce`.
        value_range: darkest and brightest value of images, for `ssim`.

    Raises:
        ConfigError: an unknown term, a negative factor, or no term at all.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, float],
        adversarial: str = "lsgan",
        temperature: float = 0.07,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        problems = [
            f"model.losses.weights.{name} is no term; {nearest(name, TERMS)}" for name in weights if name not in TERMS
        ]
        problems += [
            f"model.losses.weights.{name}={value} must be 0 or more" for name, value in weights.items() if value < 0
        ]
        if not any(weights.values()):
            problems.append("model.losses.weights are all 0: there is nothing to learn")
        low, high = value_range
        if low >= high:
            problems.append(f"model.losses.value_range=[{low}, {high}] must ascend")
        if problems:
            raise ConfigError("; ".join(problems))
        self.weights = {name: float(weights[name]) for name in TERMS if weights.get(name)}
        self.value_range = (float(low), float(high))
        self.adversarial = AdversarialLoss(adversarial)
        self.nce = PatchNCELoss(temperature=temperature)

    def needs(self, *names: str) -> bool:
        """Whether any of these terms has a weight, and so what it is made of must be computed.

        Raises:
            ConfigError: a name that is no term.
        """
        if unknown := [name for name in names if name not in TERMS]:
            raise ConfigError("; ".join(f"{name!r} is no term; {nearest(name, TERMS)}" for name in unknown))
        return any(name in self.weights for name in names)

    def forward(
        self,
        *,
        real: Tensor,
        scores: Sequence[Tensor] | None = None,
        reconstruction: Tensor | None = None,
        identity: Tensor | None = None,
        patches: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
        foreground: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms that have a weight, without it, as scalars in float32.

        Args:
            real: [B, M, H, W], centre slices.
            scores: the discriminator's of the fakes, see `AdversarialLoss.generator`.
            reconstruction: [B, M, H, W], what the other generator makes of the fakes.
            identity: [B, M, H, W], what the other generator makes of `real`'s stack.
            patches: queries and keys, see `PatchNCELoss.forward`.
            foreground: [B, 1, H, W] bool; None is everywhere.

        Raises:
            ConfigError: something is not given that a term with a weight is made of.
        """
        given = {
            "adversarial": scores,
            "cycle": reconstruction,
            "identity": identity,
            "ssim": reconstruction,
            "gradient": reconstruction,
            "nce": patches,
        }
        if absent := [name for name in self.weights if given[name] is None]:
            raise ConfigError(
                f"this model computes nothing that {', '.join(absent)} could be measured on; set "
                + " and ".join(f"model.losses.weights.{name}=0" for name in absent)
            )
        terms: dict[str, Tensor] = {}
        if scores is not None and self.needs("adversarial"):
            terms["adversarial"] = self.adversarial.generator(scores)
        if reconstruction is not None and self.needs("cycle"):
            terms["cycle"] = absolute_difference(reconstruction, real, foreground)
        if identity is not None and self.needs("identity"):
            terms["identity"] = absolute_difference(identity, real, foreground)
        if reconstruction is not None and self.needs("ssim"):
            terms["ssim"] = structural_dissimilarity(reconstruction, real, foreground, value_range=self.value_range)
        if reconstruction is not None and self.needs("gradient"):
            terms["gradient"] = gradient_difference(reconstruction, real, foreground)
        if patches is not None and self.needs("nce"):
            terms["nce"] = self.nce(*patches)
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of what `forward` gave, a scalar."""
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()

    def extra_repr(self) -> str:
        """The weights."""
        return ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())
