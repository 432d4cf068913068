"""Unpaired translation between two scanners, slices with their neighbours: CycleGAN-2.5D, and CUT one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.batch import MODALITIES, STACK_SLICES, Batch
from seewhy.errors import ConfigError, ExplanationError
from seewhy.losses.translation import TranslationLoss
from seewhy.models.translation.adversarial import frozen
from seewhy.models.translation.explanation import explained_translation
from seewhy.models.translation.networks import build_discriminators, build_generators, build_samplers, check_choices
from seewhy.models.translation.replay import Replays
from seewhy.models.translation.step import OUTSIDE, TranslationStep, cut_out
from seewhy.models.translation.unpaired import UnpairedTranslation, direction_of, other_domain
from seewhy.nets.generators.slice_stack import repeat_slice, stack_volume
from seewhy.options import call_with_options

__all__ = ["CycleGAN25D"]


class CycleGAN25D(UnpairedTranslation):
    """A generator for each direction and a discriminator for each domain, on stacks of three slices.

    Generators make the centre slice of a stack as the other domain's scanner would show it. Fakes are cut out by the
    tissue before anything judges or takes them on, so background stays background.

    Args:
        optimizer: of generators, see `seewhy.models.base.BaseModule`.
        scheduler: of both optimisers, see there; counted in steps of one of them.
        generator: `name` (`sa` or `plain`) and options of `SAGenerator25D` or `PlainGenerator25D`.
        discriminator: options of `MultiScaleDiscriminator`.
        losses: options of `TranslationLoss`.
        nce: `dim` and `patches` of `PatchSampler`; `identity`: PatchNCE also of images that should stay as they are.
        directions: `both`; or `a2b` or `b2a` alone, with which only CUT's losses exist (Park 2020).
        cycle: `neighbours` translates three slices of a stack of five and takes them back as a stack; `repeat` takes
            one slice back as if its neighbours were the same.
        legacy_layout: channels of repeated slices modality by modality, as imported weights know them.
        replay: fakes that each domain's history holds, see `ReplayBuffer`.
        discriminator_optimizer: see `AdversarialModule`, as `accumulate` and `clip`.
        accumulate: batches per step.
        clip: largest norm of all gradients of an optimiser.
        slice_batch: slices at a time in evaluation.
        channels_last: memory format of images and weights, the fastest one for GPUs with mixed precision.
        val_cycle: weight of the cycles' error in `val/loss`, see `UnpairedTranslation`.
        seed: of draws in training.

    Attributes:
        generators: `a2b`, `b2a`, or one of them.
        discriminators: `a`, `b`: what judges the images that are made for this domain.
        unaveraged: names of parts that averages of weights leave alone: only training needs them.
    """

    unaveraged = ("discriminators", "samplers")

    def __init__(
        self,
        *,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        generator: Mapping[str, Any] | None = None,
        discriminator: Mapping[str, Any] | None = None,
        losses: Mapping[str, Any] | None = None,
        nce: Mapping[str, Any] | None = None,
        directions: str = "both",
        cycle: str = "neighbours",
        legacy_layout: bool = False,
        replay: int = 50,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        accumulate: int = 1,
        clip: float | None = None,
        slice_batch: int = 16,
        channels_last: bool = False,
        val_cycle: float = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = {"name": "sa"} if generator is None else dict(generator)
        discriminator = {} if discriminator is None else dict(discriminator)
        losses = {"weights": {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0}} if losses is None else dict(losses)
        nce = {} if nce is None else dict(nce)
        self.save_hyperparameters()
        self.configure()

    # -- slots -----------------------------------------------------------------------------------------------

    def configure_nets(self) -> None:
        """Build the networks, and what takes them through a training step."""
        h = self.hparams
        self.loss = call_with_options(TranslationLoss, h["losses"], "model.losses")
        check_choices(h, self.loss)
        self.generators = build_generators(h["directions"], h["generator"])
        self.discriminators = build_discriminators(h["directions"], h["discriminator"])
        width = int(h["generator"].get("width", 64))
        self.samplers = build_samplers(h["directions"], h["nce"], width) if self.loss.needs("nce") else nn.ModuleDict()
        self.step = TranslationStep(
            generators=self.generators,
            discriminators=self.discriminators,
            samplers=self.samplers,
            loss=self.loss,
            slices=STACK_SLICES,
            modalities=len(MODALITIES),
            cycle=h["cycle"],
            legacy_layout=h["legacy_layout"],
            nce_identity=bool(h["nce"].get("identity", False)),
            channels_last=h["channels_last"],
        )
        self.replays = Replays(self.discriminators, capacity=h["replay"], seed=h["seed"])
        if h["channels_last"]:
            self.to(memory_format=torch.channels_last)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Those of generators, and of what PatchNCE compares patches by."""
        return [*self.generators.parameters(), *self.samplers.parameters()]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Those of discriminators."""
        return list(self.discriminators.parameters())

    # -- use -------------------------------------------------------------------------------------------------

    def forward(self, stack: Tensor, domain: str = "a") -> Tensor:
        """See `translate`."""
        return self.translate(stack, domain=domain)

    def translates(self, domain: str) -> bool:
        """Whether there is a generator for stacks of a domain."""
        return direction_of(domain) in self.generators

    def translate(self, stack: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Centre slices as the other domain's scanner would show them.

        Args:
            stack: [B, 3 * M, H, W] in [-1, 1].
            domain: `a` or `b`, the one that the stacks are of.
            body: [B, H, W] bool, the tissue of centre slices; outside it the result is -1. None: everywhere.

        Returns:
            [B, M, H, W] float32 in [-1, 1].

        Raises:
            ConfigError: no such domain, or a model that translates only the other one.
        """
        direction = direction_of(domain)
        if direction not in self.generators:
            raise ConfigError(f"model.directions={self.hparams['directions']}: nothing translates domain {domain}")
        inside = torch.ones_like(stack[:, 0], dtype=torch.bool) if body is None else body
        size = int(self.hparams["slice_batch"])
        parts = [
            self.step.generate(direction, own, where[:, None])
            for own, where in zip(stack.split(size), inside.split(size), strict=True)
        ]
        return cut_out(torch.cat(parts).clamp(-1.0, 1.0), inside[:, None])

    def reconstruct(self, translated: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Take a translated subject back.

        Args:
            translated: [S, M, H, W], all its slices in order.
            domain: the one that it was of before it was translated.
            body: see `translate`.

        Returns:
            See `translate`.
        """
        if self.hparams["legacy_layout"]:
            stack = repeat_slice(translated, STACK_SLICES, legacy_layout=True)
        else:
            # As in training, what lies beyond the tissue is empty, not the outermost slice once more.
            padded = F.pad(translated.transpose(0, 1), (0, 0, 0, 0, 1, 1), value=OUTSIDE)
            stack = stack_volume(padded, slices=STACK_SLICES)[1:-1]
        return self.translate(stack, domain=other_domain(domain), body=body)

    def explained(self, batch: Batch) -> tuple[nn.Module, Batch]:
        """The generator of a subject's direction as explainers take it, see `ModalityScores`.

        Raises:
            ExplanationError: nothing translates this domain.
        """
        domain = batch["domain"][0]
        if not self.translates(domain):
            raise ExplanationError(f"model.directions={self.hparams['directions']}: nothing translates domain {domain}")
        return explained_translation(self.generators[direction_of(domain)], batch)

    # -- training --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Make sure that training stacks hold what the cycle needs."""
        super().setup(stage)
        found = getattr(getattr(self.trainer, "datamodule", None), "slices", None)
        if stage == "fit" and found is not None and found < self.step.stack_slices:
            raise ConfigError(
                f"data.slices={found}: model.cycle={self.hparams['cycle']} needs stacks of {self.step.stack_slices}; "
                f"set data.slices={self.step.stack_slices}"
            )

    def on_fit_start(self) -> None:
        """Measure what -1 and 1 stand for, and give each process draws of its own."""
        super().on_fit_start()
        self.replays.begin(self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Gradients of a batch, and a step of both optimisers where its window ends."""
        window = self.window(batch_idx)
        sides = {domain: self.step.side(batch[domain]) for domain in "ab"}  # type: ignore[literal-required]
        with self.gathering(window):
            with frozen(self.discriminators):
                # Spectral norms move on once per step, so that all passes of a window see the same discriminators.
                self.discriminators.train(window.first)
                made = self.step.generator_losses(sides)
                self.manual_backward(made.total / window.length)
            self.discriminators.eval()
            judged = self.step.discriminator_losses(sides, self.replays.exchange(made.fakes))
            self.manual_backward(torch.stack(list(judged.values())).sum() / (2 * window.length))
        if window.last:
            self.step_optimizers()
        self._log_losses(made.terms, judged, len(sides["a"].real))

    def _log_losses(
        self, terms: Mapping[str, Mapping[str, Tensor]], judged: Mapping[str, Tensor], batch_size: int
    ) -> None:
        found = {f"train/{way}/{name}": value.detach() for way, own in terms.items() for name, value in own.items()}
        found |= {f"train/{domain}/discriminator": value.detach() for domain, value in judged.items()}
        self.log_dict(found, batch_size=batch_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep every process's history of fakes."""
        checkpoint["replays"] = self.replays.gathered_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Have the histories of fakes ready for a training that is continued."""
        self.replays.resume_from(checkpoint.get("replays"))
