"""Builders for the networks of an unpaired translation, and checks of combined options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from seewhy.batch import MODALITIES, STACK_SLICES
from seewhy.errors import ConfigError
from seewhy.losses.translation import TranslationLoss
from seewhy.nets.generators.base import Generator25D
from seewhy.nets.generators.curve import CurveGenerator25D
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator
from seewhy.nets.generators.patch_sampler import PatchSampler
from seewhy.nets.generators.plain import PlainGenerator25D
from seewhy.nets.generators.self_attention import NCE_CHANNELS, SAGenerator25D
from seewhy.options import call_problems, call_with_options, check_choice, choice_problems, option_problems

__all__ = [
    "CYCLES",
    "DIRECTIONS",
    "build_discriminators",
    "build_generators",
    "build_samplers",
    "check_choices",
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
        >>> from seewhy.models.translation.networks import find_generator_problems
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
