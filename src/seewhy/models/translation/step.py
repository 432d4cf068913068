"""Training of an unpaired translation: its networks, checks of their options, and the losses of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from seewhy.batch import MODALITIES, STACK_SLICES, Domain
from seewhy.errors import ConfigError
from seewhy.losses.translation import TranslationLoss
from seewhy.nets.generators.base import Generator25D, centre_slice, cut_windows, repeat_slice, stack_slices
from seewhy.nets.generators.curve import CurveGenerator25D
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator, PatchSampler
from seewhy.nets.generators.published import NCE_CHANNELS, PlainGenerator25D, SAGenerator25D
from seewhy.options import call_problems, call_with_options, check_choice, choice_problems, option_problems

__all__ = [
    "CYCLES",
    "DIRECTIONS",
    "OUTSIDE",
    "DomainStacks",
    "GeneratorResult",
    "TranslationStep",
    "build_discriminators",
    "build_generators",
    "build_samplers",
    "check_choices",
    "cut_out",
    "find_generator_problems",
    "find_nce_problems",
]

GENERATORS: dict[str, type[Generator25D]] = {
    "sa": SAGenerator25D,
    "plain": PlainGenerator25D,
    "curve": CurveGenerator25D,
}
DIRECTIONS = {"both": ("a2b", "b2a"), "a2b": ("a2b",), "b2a": ("b2a",)}
"""Choice → names of its generators; the first letter is the input domain, the last the output domain."""
CYCLES = ("neighbours", "repeat")
NCE = ("dim", "patches", "identity")


def build_generators(directions: str, options: Mapping[str, Any]) -> nn.ModuleDict:
    """Build a generator per direction: `name` is a key of `GENERATORS`, the other options are those of its class."""
    settings = dict(options)
    name = str(settings.pop("name", "sa"))
    check_choice(name, GENERATORS, "model.generator.name")
    sizes = {"slices": STACK_SLICES, "modalities": len(MODALITIES)}
    return nn.ModuleDict(
        {
            direction: call_with_options(GENERATORS[name], settings, "model.generator", **sizes)
            for direction in DIRECTIONS[directions]
        }
    )


def find_generator_problems(options: Mapping[str, Any], option: str) -> list[str]:
    """List the problems of a generator's `name` and options.

    Example:
        >>> from seewhy.models.translation.step import find_generator_problems
        >>> find_generator_problems({"name": "plain", "width": "wide"}, "model.generator")
        ["model.generator.width='wide' must be an integer"]
    """
    settings = dict(options)
    name = settings.pop("name", "sa")
    problems = choice_problems(name, GENERATORS, f"{option}.name")
    return problems or call_problems(GENERATORS[name], settings, option, fixed=("slices", "modalities"))


def find_nce_problems(options: Mapping[str, Any], option: str) -> list[str]:
    """List the problems of the options of PatchNCE and of its sampler."""
    problems = option_problems(options, NCE, option)
    sampler = {name: value for name, value in options.items() if name in NCE and name != "identity"}
    return problems + call_problems(PatchSampler, sampler, option, fixed=("channels",))


def build_discriminators(directions: str, options: Mapping[str, Any] | None) -> nn.ModuleDict:
    """Build a discriminator for each output domain."""
    return nn.ModuleDict(
        {
            direction[-1]: call_with_options(
                MultiScaleDiscriminator, options, "model.discriminator", channels=len(MODALITIES)
            )
            for direction in DIRECTIONS[directions]
        }
    )


def build_samplers(directions: str, options: Mapping[str, Any], width: int) -> nn.ModuleDict:
    """Build a patch sampler of PatchNCE for each generator."""
    channels = [width * scale for scale in NCE_CHANNELS]
    settings = {name: value for name, value in options.items() if name != "identity"}
    return nn.ModuleDict(
        {
            direction: call_with_options(PatchSampler, settings, "model.nce", channels=channels)
            for direction in DIRECTIONS[directions]
        }
    )


def check_choices(options: Mapping[str, Any], loss: TranslationLoss) -> None:
    """Check choices and their combinations, and report all problems at once.

    Args:
        options: the model's hyperparameters.
        loss: the loss built from them.

    Raises:
        ConfigError: an unknown choice, or loss terms that this model cannot compute.
    """
    directions, cycle = options["directions"], options["cycle"]
    problems = []
    problems += choice_problems(directions, DIRECTIONS, "model.directions")
    if directions in DIRECTIONS and directions != "both":
        closed = [name for name in ("cycle", "ssim", "gradient") if loss.needs(name)]
        if closed:
            problems.append(
                f"model.directions={directions} has no generator back, so nothing closes a cycle for the losses "
                f"{', '.join(closed)}; set " + " and ".join(f"model.losses.weights.{name}=0" for name in closed)
            )
        if options["legacy_layout"]:
            problems.append(f"model.directions={directions} has no cycle, so model.legacy_layout has no effect")
    problems += choice_problems(cycle, CYCLES, "model.cycle")
    if options["legacy_layout"] and cycle == "neighbours":
        problems.append("model.legacy_layout=true is the layout of repeated slices; set model.cycle=repeat with it")
    problems += option_problems(options["nce"], NCE, "model.nce")
    if loss.needs("nce") and options["generator"].get("name", "sa") != "sa":
        problems.append("model.losses.weights.nce compares features, which only model.generator.name=sa gives")
    if options["slice_batch"] < 1:
        problems.append(f"model.slice_batch={options['slice_batch']} must be 1 or more slices")
    if problems:
        raise ConfigError("; ".join(problems))


OUTSIDE = -1.0
"""Value of the background."""


def cut_out(image: Tensor, body: Tensor) -> Tensor:
    """Set everything outside the tissue to the background.

    Args:
        image: [B, M, H, W].
        body: [B, 1, H, W] bool, the tissue.

    Returns:
        [B, M, H, W] float32, -1 outside the tissue.
    """
    return torch.where(body, image.float(), OUTSIDE)


class DomainStacks(NamedTuple):
    """Training stacks of a domain, in the layout of the networks.

    Attributes:
        windows: [B * K, S * M, H, W], the translated stacks: those of K neighbouring slices.
        inside: [B * K, 1, H, W] bool, the tissue of their centre slices.
        stack: [B, S * M, H, W], stack of the centre slice.
        real: [B, M, H, W], the centre slice.
        body: [B, 1, H, W] bool, tissue of the centre slice.
    """

    windows: Tensor
    inside: Tensor
    stack: Tensor
    real: Tensor
    body: Tensor


class GeneratorResult(NamedTuple):
    """Losses and fakes of the generators in a step.

    Attributes:
        terms: direction → term → scalar without its weight.
        total: weighted sum of all terms, a scalar.
        fakes: domain → [B, M, H, W], slices translated into the domain, without a graph.
    """

    terms: dict[str, dict[str, Tensor]]
    total: Tensor
    fakes: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TranslationStep:
    """Computes the losses of generators and discriminators.

    Networks normalise each image separately, so images of the same network share one forward pass: images to
    translate with images that should stay unchanged, and real images with fakes.

    Attributes:
        generators: `a2b`, `b2a`, or one of them.
        discriminators: `b`, `a`, in the order of the generators.
        samplers: for PatchNCE, one per generator; empty without it.
        loss: loss of the generators.
        slices: S of a generator's stack.
        modalities: M.
        cycle: input of the way back: stacks of translated `neighbours`, or one slice by `repeat`.
        legacy_layout: order the channels of a repeated slice by modality.
        nce_identity: PatchNCE also of images that should stay unchanged (Park 2020, eq. 5: the second term).
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
        """Smallest number of slices of a training stack."""
        return 2 * self.slices - 1 if self.cycle == "neighbours" and len(self.generators) > 1 else self.slices

    def side(self, domain: Domain) -> DomainStacks:
        """Cut a domain's stacks of `stack_slices` or more slices for the networks."""
        image, body = domain["image"], domain["body"]
        middle, around = body.shape[1] // 2, (self.stack_slices - self.slices) // 2
        first, last = middle - self.slices // 2 - around, middle + self.slices // 2 + around + 1
        image = image[:, first * self.modalities : last * self.modalities]
        inside = body[:, middle - around : middle + around + 1].flatten(0, 1)[:, None]
        cut = cut_windows(image, modalities=self.modalities, slices=self.slices) if around else image
        stack = cut[around :: 2 * around + 1]
        return DomainStacks(cut, inside, stack, centre_slice(stack, self.modalities), body[:, middle, None])

    def generate(self, direction: str, stack: Tensor, body: Tensor) -> Tensor:
        """Translate stacks [B, S * M, H, W] to slices [B, M, H, W], masked by the tissue [B, 1, H, W]."""
        return cut_out(self.generators[direction](self._set_memory_format(stack)), body)

    def judge(self, domain: str, image: Tensor) -> list[Tensor]:
        """Scores of images [B, M, H, W] as images of a domain, one map per scale."""
        scores: list[Tensor] = self.discriminators[domain](self._set_memory_format(image))
        return scores

    def stack_back(self, made: Tensor) -> Tensor:
        """Stacks [B, S * M, H, W] for the way back from translated windows [B * K, M, H, W]."""
        if self.stack_slices > self.slices:
            return stack_slices(made, self.slices)
        return repeat_slice(made, self.slices, legacy_layout=self.legacy_layout)

    def generator_losses(self, sides: Mapping[str, DomainStacks]) -> GeneratorResult:
        """Losses of the generators; discriminators only pass gradients on."""
        made: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}
        for direction in self.generators:
            made[direction], kept[direction] = self._translate(direction, sides)
        terms, fakes = {}, {}
        for direction in self.generators:
            fake = self._centre(made[direction])
            fakes[direction[-1]] = fake.detach()
            terms[direction] = self.loss(**self._loss_inputs(direction, sides, made[direction], kept, fake))
        return GeneratorResult(terms, torch.stack([self.loss.total(losses) for losses in terms.values()]).sum(), fakes)

    def discriminator_losses(self, sides: Mapping[str, DomainStacks], fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Domain → scalar loss of its discriminator.

        Args:
            sides: with the real images.
            fakes: domain → [B, M, H, W].
        """
        losses = {}
        for domain, fake in fakes.items():
            real = sides[domain].real
            maps = [scores.split([len(real), len(fake)]) for scores in self.judge(domain, torch.cat([real, fake]))]
            losses[domain] = self.loss.adversarial.discriminator([real for real, _ in maps], [fake for _, fake in maps])
        return losses

    def _translate(self, direction: str, sides: Mapping[str, DomainStacks]) -> tuple[Tensor, Tensor]:
        """Translated windows [B * K, M, H, W], and outputs that should equal their input, [B, M, H, W] or empty."""
        source, target = sides[direction[0]], sides[direction[-1]]
        stacks, inside = [source.windows], [source.inside]
        if self.loss.needs("identity") or (self.nce_identity and self.loss.needs("nce")):
            stacks.append(target.stack)
            inside.append(target.body)
        out = self.generate(direction, torch.cat(stacks), torch.cat(inside))
        return out[: len(source.windows)], out[len(source.windows) :]

    def _loss_inputs(
        self, direction: str, sides: Mapping[str, DomainStacks], made: Tensor, kept: Mapping[str, Tensor], fake: Tensor
    ) -> dict[str, Any]:
        """Arguments of `TranslationLoss.forward` for a direction."""
        source, target = direction[0], direction[-1]
        other = f"{target}2{source}"
        inputs: dict[str, Any] = {"real": sides[source].real, "foreground": sides[source].body}
        if self.loss.needs("adversarial"):
            inputs["scores"] = self.judge(target, fake)
        if self.loss.needs("nce"):
            inputs["patches"] = self._patches(direction, sides, made, kept[direction])
        if other in self.generators:
            if self.loss.needs("cycle", "ssim", "gradient"):
                inputs["reconstruction"] = self.generate(other, self.stack_back(made), sides[source].body)
            if self.loss.needs("identity"):
                inputs["identity"] = kept[other]
        elif self.loss.needs("identity"):  # a single generator should not change images of its target domain
            inputs |= {"real": sides[target].real, "foreground": sides[target].body, "identity": kept[direction]}
        return inputs

    def _patches(
        self, direction: str, sides: Mapping[str, DomainStacks], made: Tensor, kept: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Queries and keys of PatchNCE: of the translation, and of images that should stay unchanged."""
        source, target = sides[direction[0]], sides[direction[-1]]
        queries, keys = self._sample_patches(direction, source.stack, self.stack_back(made), source.body)
        if self.nce_identity:
            same = repeat_slice(kept, self.slices)
            more = self._sample_patches(direction, target.stack, same, target.body)
            queries, keys = queries + more[0], keys + more[1]
        return queries, keys

    def _sample_patches(
        self, direction: str, before: Tensor, after: Tensor, body: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        net: Any = self.generators[direction]
        sampler = self.samplers[direction]
        with torch.no_grad():  # keys give no gradient
            keys, places = sampler(net.features(self._set_memory_format(before)), foreground=body)
        queries, _ = sampler(net.features(self._set_memory_format(after)), places)
        return queries, keys

    def _centre(self, made: Tensor) -> Tensor:
        """Centre slices of translated windows."""
        count = self.stack_slices - self.slices + 1
        return made[count // 2 :: count]

    def _set_memory_format(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
