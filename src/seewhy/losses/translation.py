"""All that an unpaired translation in one direction is measured by, with its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.losses.adversarial import AdversarialLoss
from seewhy.losses.likeness import absolute_difference, gradient_difference, structural_dissimilarity
from seewhy.losses.patch_nce import PatchNCELoss

__all__ = ["TERMS", "TranslationLoss"]

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
