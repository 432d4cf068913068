"""Losses of unpaired translation: adversarial, reconstruction, PatchNCE, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from seewhy.errors import ConfigError, nearest
from seewhy.options import check_choice

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
    """Mean over the foreground of all samples and channels, in float32; 0 without foreground.

    Args:
        values: [B, C, H, W].
        foreground: [B, 1, H, W] bool; None is everywhere.

    Example:
        >>> import torch
        >>> values = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> float(foreground_mean(values, values > 1))
        2.5
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

    SSIM compares ratios of means, so the darkest possible value is subtracted first.

    Args:
        image: [B, C, H, W], sides of at least 6.
        target: like `image`.
        foreground: see `foreground_mean`; windows around its pixels extend beyond it.
        value_range: darkest and brightest value.

    Example:
        >>> import torch
        >>> image = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
        >>> round(float(structural_dissimilarity(image, image)), 5)
        0.0
    """
    low, high = value_range
    # Variances are small differences of large numbers, for which half precision is too coarse.
    with torch.autocast(image.device.type, enabled=False):
        result = structural_similarity_index_measure(
            image.float() - low, target.float() - low, data_range=high - low, reduction="none", return_full_image=True
        )
    return foreground_mean(1 - result[1], foreground)


def gradient_difference(image: Tensor, target: Tensor, foreground: Tensor | None = None) -> Tensor:
    """Scalar mean of the absolute difference of slopes per pixel, by Sobel's filter over 8, across and down.

    Args:
        image: [B, C, H, W].
        target: like `image`.
        foreground: see `foreground_mean`.
    """
    padded = F.pad(image.float() - target.float(), (1, 1, 1, 1), mode="replicate")  # the filter is linear
    # Written without a kernel tensor, which would be copied to a GPU in every step.
    down, across = (padded.diff(dim=axis) for axis in (2, 3))
    down, across = down[:, :, :-1] + down[:, :, 1:], across[..., :-1] + across[..., 1:]  # differences over two pixels
    slopes = (_smooth(down, 3).abs() + _smooth(across, 2).abs()) / 16
    return foreground_mean(slopes, foreground)


def _smooth(values: Tensor, axis: int) -> Tensor:
    """Weighted sum of each line and its neighbours, with weights 1, 2, 1."""
    lines = values.unfold(axis, 3, 1)
    return lines[..., 0] + 2 * lines[..., 1] + lines[..., 2]


NAMES = ("lsgan", "hinge")


class AdversarialLoss(nn.Module):
    """Losses of a discriminator's score maps, averaged over scales, in float32.

    `lsgan` (Mao 2017, eq. 9): squared distance of real scores from 1 and of fake scores from 0; for the generator, of
    its fakes' scores from 1. `hinge` (Lim and Ye 2017; Miyato 2018, eq. 16 and 17): real scores should be above 1 and
    fake scores below -1; the generator maximises the fakes' scores.

    Args:
        name: `lsgan` or `hinge`.

    Example:
        >>> import torch
        >>> loss = AdversarialLoss("lsgan")
        >>> real, fake = [torch.ones(1, 1, 4, 4)], [torch.zeros(1, 1, 4, 4)]
        >>> float(loss.discriminator(real, fake)), float(loss.generator(fake))
        (0.0, 1.0)
    """

    def __init__(self, name: str = "lsgan") -> None:
        super().__init__()
        check_choice(name, NAMES, "model.losses.adversarial")
        self.name = name

    def generator(self, fake: Sequence[Tensor]) -> Tensor:
        """Scalar loss of the generator.

        Args:
            fake: scores [B, 1, h, w] of its images, one map per scale, with gradient.
        """
        if self.name == "lsgan":
            return _mean([(scores.float() - 1).square().mean() for scores in fake])
        return _mean([-scores.float().mean() for scores in fake])

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Scalar loss of the discriminator, the sum of the losses of real images and fakes.

        Args:
            real: scores [B, 1, h, w] of real images, one map per scale.
            fake: scores of generated images, which have no gradient to the generator.
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
        """The name of the loss."""
        return self.name


def _mean(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).mean()


class PatchNCELoss(nn.Module):
    """Contrastive loss that matches a patch of a fake with the same patch of its source (Park 2020, eq. 3 and 4).

    It is the cross-entropy of finding that patch among the others of the same image, by cosine similarity over a
    temperature; mean over patches, images and maps.

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
            queries: unit vectors [B, P, dim] of the fake's patches, one tensor per feature map.
            keys: unit vectors at the same positions of the source; they get no gradient.
        """
        losses = []
        for query, key in zip(queries, keys, strict=True):
            with torch.autocast(query.device.type, enabled=False):
                logits = query.float() @ key.detach().float().mT / self.temperature
            target = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
            losses.append(F.cross_entropy(logits.flatten(0, 1), target.flatten()))
        return torch.stack(losses).mean()


TERMS = ("adversarial", "cycle", "identity", "ssim", "gradient", "nce")


class TranslationLoss(nn.Module):
    """Weighted terms of a generator's loss; terms without a weight are not computed.

    For the direction A → B:

    - `adversarial`: see `AdversarialLoss`;
    - `cycle`: mean |A - G_BA(G_AB(A))| (Zhu 2017, eq. 2);
    - `identity`: mean |A - G_BA(A)| (Zhu 2017, section 5.2);
    - `ssim` and `gradient`: 1 - SSIM and difference of slopes of the cycle's reconstruction;
    - `nce`: see `PatchNCELoss`.

    All except `adversarial` and `nce` are means over the foreground.

    Args:
        weights: term → factor ≥ 0; other terms are left out.
        adversarial: `lsgan` or `hinge`.
        temperature: temperature of `nce`.
        value_range: darkest and brightest value of images, for `ssim`.

    Raises:
        ConfigError: an unknown term, a negative factor, or no term at all.

    Example:
        >>> import torch
        >>> loss = TranslationLoss(weights={"cycle": 10.0})
        >>> terms = loss(real=torch.zeros(1, 4, 8, 8), reconstruction=torch.full((1, 4, 8, 8), 0.5))
        >>> float(terms["cycle"]), float(loss.total(terms))
        (0.5, 5.0)
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
            f"unknown term model.losses.weights.{name}; {nearest(name, TERMS)}" for name in weights if name not in TERMS
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
        """Whether any of these terms has a weight, so that its inputs must be computed.

        Raises:
            ConfigError: an unknown term.
        """
        if unknown := [name for name in names if name not in TERMS]:
            raise ConfigError("; ".join(f"unknown term {name!r}; {nearest(name, TERMS)}" for name in unknown))
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
        """The unweighted terms that have a weight, as scalars in float32.

        Args:
            real: [B, M, H, W], centre slices.
            scores: the discriminator's scores of the fakes; see `AdversarialLoss.generator`.
            reconstruction: [B, M, H, W], output of the other generator for the fakes.
            identity: [B, M, H, W], output of the other generator for `real`'s stack.
            patches: queries and keys, see `PatchNCELoss.forward`.
            foreground: [B, 1, H, W] bool; None is everywhere.

        Raises:
            ConfigError: an input of a term with a weight is missing.
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
                f"this model has no inputs for the loss terms {', '.join(absent)}; set "
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
        """Weighted sum of the terms of `forward`, a scalar."""
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()

    def extra_repr(self) -> str:
        """The weights."""
        return ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())
