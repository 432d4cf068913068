"""What an unpaired translation computes in one training step: passes through the networks, shared where they can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from seewhy.batch import Domain
from seewhy.losses.translation import TranslationLoss
from seewhy.nets.generators.slice_stack import centre_slice, cut_windows, repeat_slice, stack_slices

__all__ = ["OUTSIDE", "Made", "Side", "TranslationStep", "cut_out"]

OUTSIDE = -1.0
"""Value of all that is not tissue."""


def cut_out(image: Tensor, body: Tensor) -> Tensor:
    """Leave the background what it is.

    Args:
        image: [B, M, H, W].
        body: [B, 1, H, W] bool, the tissue.

    Returns:
        [B, M, H, W] float32, -1 outside the tissue.
    """
    return torch.where(body, image.float(), OUTSIDE)


class Side(NamedTuple):
    """Training stacks of a domain, as the networks take them.

    Attributes:
        windows: [B * K, S * M, H, W], what is translated: the stack, or those of K neighbouring slices.
        inside: [B * K, 1, H, W] bool, the tissue of their centre slices.
        stack: [B, S * M, H, W], that of the centre slice.
        real: [B, M, H, W], the centre slice.
        body: [B, 1, H, W] bool, its tissue.
    """

    windows: Tensor
    inside: Tensor
    stack: Tensor
    real: Tensor
    body: Tensor


class Made(NamedTuple):
    """What generators made in a step.

    Attributes:
        terms: direction → term → scalar without its weight.
        total: weighted sum of all, a scalar.
        fakes: domain → [B, M, H, W] of what was translated into it, without a graph.
    """

    terms: dict[str, dict[str, Tensor]]
    total: Tensor
    fakes: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TranslationStep:
    """The losses of both kinds of networks.

    Networks normalise each image by itself, so images that go through the same network go in one batch: what is to
    be translated with what should stay as it is, and real images with fakes.

    Attributes:
        generators: `a2b`, `b2a`, or one of them.
        discriminators: `b`, `a`, as generators make them.
        samplers: for PatchNCE, one per generator; empty without it.
        loss: of generators.
        slices: S of a generator's stack.
        modalities: M.
        cycle: how fakes go back: as stacks of translated `neighbours`, or one slice by `repeat`.
        legacy_layout: channels of a repeated slice modality by modality.
        nce_identity: PatchNCE also of what should stay as it is (Park 2020, eq. 5: the second term).
        channels_last: memory format of images.
    """

    generators: nn.ModuleDict
    discriminators: nn.ModuleDict
    samplers: nn.ModuleDict
    loss: TranslationLoss
    slices: int
    modalities: int
    cycle: Literal["neighbours", "repeat"] = "neighbours"
    legacy_layout: bool = False
    nce_identity: bool = False
    channels_last: bool = False

    @property
    def stack_slices(self) -> int:
        """Least slices of a training stack."""
        return 2 * self.slices - 1 if self.cycle == "neighbours" and len(self.generators) > 1 else self.slices

    def side(self, domain: Domain) -> Side:
        """Cut a domain's stacks, of `stack_slices` or more, for the networks."""
        image, body = domain["image"], domain["body"]
        middle, around = body.shape[1] // 2, (self.stack_slices - self.slices) // 2
        first, last = middle - self.slices // 2 - around, middle + self.slices // 2 + around + 1
        image = image[:, first * self.modalities : last * self.modalities]
        inside = body[:, middle - around : middle + around + 1].flatten(0, 1)[:, None]
        cut = cut_windows(image, modalities=self.modalities, slices=self.slices) if around else image
        stack = cut[around :: 2 * around + 1]
        return Side(cut, inside, stack, centre_slice(stack, self.modalities), body[:, middle, None])

    def generate(self, direction: str, stack: Tensor, body: Tensor) -> Tensor:
        """Translated slices [B, M, H, W] of stacks [B, S * M, H, W], where there is tissue [B, 1, H, W]."""
        return cut_out(self.generators[direction](self._laid_out(stack)), body)

    def judge(self, domain: str, image: Tensor) -> list[Tensor]:
        """Scores of images [B, M, H, W] as images of a domain, one map per scale."""
        scores: list[Tensor] = self.discriminators[domain](self._laid_out(image))
        return scores

    def back(self, made: Tensor) -> Tensor:
        """Stacks [B, S * M, H, W] for the way back, of what was made of windows [B * K, M, H, W]."""
        if self.stack_slices > self.slices:
            return stack_slices(made, self.slices)
        return repeat_slice(made, self.slices, legacy_layout=self.legacy_layout)

    def generator_losses(self, sides: Mapping[str, Side]) -> Made:
        """Everything that generators are measured by; discriminators only let gradients pass."""
        made: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}
        for direction in self.generators:
            made[direction], kept[direction] = self._translate(direction, sides)
        terms, fakes = {}, {}
        for direction in self.generators:
            fake = self._centre(made[direction])
            fakes[direction[-1]] = fake.detach()
            terms[direction] = self.loss(**self._measured(direction, sides, made[direction], kept, fake))
        return Made(terms, torch.stack([self.loss.total(own) for own in terms.values()]).sum(), fakes)

    def discriminator_losses(self, sides: Mapping[str, Side], fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Domain → scalar loss of its discriminator.

        Args:
            sides: with the real images.
            fakes: domain → [B, M, H, W].
        """
        losses = {}
        for domain, fake in fakes.items():
            real = sides[domain].real
            maps = [scores.split([len(real), len(fake)]) for scores in self.judge(domain, torch.cat([real, fake]))]
            losses[domain] = self.loss.adversarial.discriminator([one for one, _ in maps], [one for _, one in maps])
        return losses

    def _translate(self, direction: str, sides: Mapping[str, Side]) -> tuple[Tensor, Tensor]:
        """What is translated, [B * K, M, H, W], and what should have stayed as it is, [B, M, H, W] or none."""
        source, target = sides[direction[0]], sides[direction[-1]]
        stacks, inside = [source.windows], [source.inside]
        if self.loss.needs("identity") or (self.nce_identity and self.loss.needs("nce")):
            stacks.append(target.stack)
            inside.append(target.body)
        out = self.generate(direction, torch.cat(stacks), torch.cat(inside))
        return out[: len(source.windows)], out[len(source.windows) :]

    def _measured(
        self, direction: str, sides: Mapping[str, Side], made: Tensor, kept: Mapping[str, Tensor], fake: Tensor
    ) -> dict[str, Any]:
        """What the loss of a direction is made of; see `TranslationLoss.forward`."""
        source, target = direction[0], direction[-1]
        other = f"{target}2{source}"
        measured: dict[str, Any] = {"real": sides[source].real, "foreground": sides[source].body}
        if self.loss.needs("adversarial"):
            measured["scores"] = self.judge(target, fake)
        if self.loss.needs("nce"):
            measured["patches"] = self._patches(direction, sides, made, kept[direction])
        if other in self.generators:
            if self.loss.needs("cycle", "ssim", "gradient"):
                measured["reconstruction"] = self.generate(other, self.back(made), sides[source].body)
            if self.loss.needs("identity"):
                measured["identity"] = kept[other]
        elif self.loss.needs("identity"):  # a single generator should leave what is of its target domain
            measured |= {"real": sides[target].real, "foreground": sides[target].body, "identity": kept[direction]}
        return measured

    def _patches(
        self, direction: str, sides: Mapping[str, Side], made: Tensor, kept: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Queries and keys of PatchNCE: of the translation, and of what should stay as it is."""
        source, target = sides[direction[0]], sides[direction[-1]]
        queries, keys = self._compared(direction, source.stack, self.back(made), source.body)
        if self.nce_identity:
            same = repeat_slice(kept, self.slices)
            more = self._compared(direction, target.stack, same, target.body)
            queries, keys = queries + more[0], keys + more[1]
        return queries, keys

    def _compared(
        self, direction: str, before: Tensor, after: Tensor, body: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        net: Any = self.generators[direction]
        sampler = self.samplers[direction]
        with torch.no_grad():  # keys give no gradient
            keys, places = sampler(net.features(self._laid_out(before)), foreground=body)
        queries, _ = sampler(net.features(self._laid_out(after)), places)
        return queries, keys

    def _centre(self, made: Tensor) -> Tensor:
        """Centre slices of what was made of windows."""
        count = self.stack_slices - self.slices + 1
        return made[count // 2 :: count]

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
