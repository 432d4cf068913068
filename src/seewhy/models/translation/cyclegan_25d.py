"""CycleGAN-2.5D and CUT: unpaired translation between two scanners of slices with their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seewhy.batch import MODALITIES, STACK_SLICES, Batch
from seewhy.data.case_files import Reading
from seewhy.errors import ConfigError, ExplanationError
from seewhy.losses.translation import TranslationLoss
from seewhy.models.base import OptimizerOptions, SchedulerOptions
from seewhy.models.exporting import ExportGraph, ExportParts
from seewhy.models.protocols import StacksSlices
from seewhy.models.translation.adversarial import ReplayHistories, freeze_parameters
from seewhy.models.translation.explanation import to_modality_scores
from seewhy.models.translation.step import (
    OUTSIDE,
    TranslationStep,
    build_discriminators,
    build_generators,
    build_samplers,
    check_choices,
    cut_out,
    find_generator_problems,
    find_nce_problems,
)
from seewhy.models.translation.unpaired import UnpairedTranslation, direction_of, other_domain
from seewhy.nets.generators.base import repeat_slice, stack_volume
from seewhy.nets.generators.discriminators import MultiScaleDiscriminator
from seewhy.option_types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from seewhy.options import OptionsOf, call_with_options
from seewhy_run.steps.subjects import WriteScans
from seewhy_run.steps.translate import Translate

__all__ = ["CycleGAN25D"]

EXAMPLE = 48
"""Side of the slices that an export is traced with, where slices may have any size."""
SIDES = 4
"""What the sides of slices must be divisible by."""


class CycleGAN25D(UnpairedTranslation):
    """A generator for each direction and a discriminator for each domain, on stacks of three slices.

    Generators translate the centre slice of a stack to the other domain's scanner. Fakes are masked by the tissue
    before any other network sees them, so background stays background.

    Args:
        optimizer: options of the generators' optimiser; see `seewhy.models.base.BaseModule`.
        scheduler: options of both schedules, counted in steps of one optimiser.
        generator: `name` (`sa`, `plain` or `curve`) and options of `SAGenerator25D`, `PlainGenerator25D` or
            `CurveGenerator25D`.
        discriminator: options of `MultiScaleDiscriminator`.
        losses: options of `TranslationLoss`.
        nce: `dim` and `patches` of `PatchSampler`; `identity`: PatchNCE also of images that should stay as they are.
        directions: `both`, or only `a2b` or `b2a`, which have CUT's losses alone (Park 2020).
        cycle: `neighbours` translates three slices of a stack of five and translates them back as a stack; `repeat`
            translates one slice back with copies of itself as neighbours.
        legacy_layout: order the channels of repeated slices by modality, as imported weights expect.
        replay: number of fakes in each domain's history; see `ReplayBuffer`.
        discriminator_optimizer: see `AdversarialModule`.
        accumulate: batches per step.
        clip: largest norm of all gradients of an optimiser.
        slice_batch: slices per forward in evaluation.
        channels_last: memory format of images and weights, the fastest one for GPUs with mixed precision.
        val_cycle: weight of the cycles' error in `val/loss`; see `UnpairedTranslation`.
        seed: seed of draws in training.

    Attributes:
        generators: `a2b`, `b2a`, or one of them.
        discriminators: `a`, `b`, by the domain of the images that they judge.
        unaveraged: parts that only training needs, which averages of weights leave out.

    Example:
        >>> import torch
        >>> model = CycleGAN25D(
        ...     optimizer={"name": "adam", "lr": 2e-4}, scheduler={"name": "constant"},
        ...     generator={"name": "plain", "width": 4, "blocks": 1, "output": "residual"},
        ... ).eval()
        >>> model.translate(torch.zeros(2, 12, 16, 16), domain="a").shape  # 3 slices of 4 modalities
        torch.Size([2, 4, 16, 16])
    """

    unaveraged: tuple[str, ...] = ("discriminators", "samplers")

    def __init__(
        self,
        *,
        optimizer: OptimizerOptions,
        scheduler: SchedulerOptions,
        generator: Annotated[Mapping[str, Any] | None, find_generator_problems] = None,
        discriminator: Annotated[Mapping[str, Any] | None, OptionsOf(MultiScaleDiscriminator, ("channels",))] = None,
        losses: Annotated[Mapping[str, Any] | None, OptionsOf(TranslationLoss)] = None,
        nce: Annotated[Mapping[str, Any] | None, find_nce_problems] = None,
        directions: str = "both",
        cycle: str = "neighbours",
        legacy_layout: bool = False,
        replay: NonNegativeInt = 50,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        accumulate: PositiveInt = 1,
        clip: PositiveFloat | None = None,
        slice_batch: PositiveInt = 16,
        channels_last: bool = False,
        val_cycle: NonNegativeFloat = 5.0,
        seed: NonNegativeInt = 0,
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
        """Build the networks, the training step and the histories of fakes."""
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
        self.replays = ReplayHistories(self.discriminators, capacity=h["replay"], seed=h["seed"])
        if h["channels_last"]:
            self.to(memory_format=torch.channels_last)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the generators, and of PatchNCE's patch samplers."""
        return [*self.generators.parameters(), *self.samplers.parameters()]

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the discriminators."""
        return list(self.discriminators.parameters())

    # -- use -------------------------------------------------------------------------------------------------

    def forward(self, stack: Tensor, domain: str = "a") -> Tensor:
        """See `translate`."""
        return self.translate(stack, domain=domain)

    def translates(self, domain: str) -> bool:
        """Whether there is a generator for stacks of a domain."""
        return direction_of(domain) in self.generators

    def translate(self, stack: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Translate centre slices to the other domain's scanner.

        Args:
            stack: [B, 3 * M, H, W] in [-1, 1].
            domain: `a` or `b`, the domain of the stacks.
            body: [B, H, W] bool, the tissue of centre slices; outside it the result is -1. None is everywhere.

        Returns:
            [B, M, H, W] float32 in [-1, 1].

        Raises:
            ConfigError: unknown domain, or one that the model does not translate.
        """
        direction = direction_of(domain)
        if direction not in self.generators:
            raise ConfigError(f"model.directions={self.hparams['directions']}: nothing translates domain {domain}")
        inside = torch.ones_like(stack[:, 0], dtype=torch.bool) if body is None else body
        size = int(self.hparams["slice_batch"])
        parts = [
            self.step.generate(direction, part, where[:, None])
            for part, where in zip(stack.split(size), inside.split(size), strict=True)
        ]
        return cut_out(torch.cat(parts).clamp(-1.0, 1.0), inside[:, None])

    def reconstruct(self, translated: Tensor, *, domain: str, body: Tensor | None = None) -> Tensor:
        """Translate a translated subject back.

        Args:
            translated: [S, M, H, W], all its slices in order.
            domain: domain of the subject before its translation.
            body: see `translate`.

        Returns:
            See `translate`.
        """
        if self.hparams["legacy_layout"]:
            stack = repeat_slice(translated, STACK_SLICES, legacy_layout=True)
        else:
            # As in training, slices beyond the tissue are empty, not copies of the outermost slice.
            padded = F.pad(translated.transpose(0, 1), (0, 0, 0, 0, 1, 1), value=OUTSIDE)
            stack = stack_volume(padded, slices=STACK_SLICES)[1:-1]
        return self.translate(stack, domain=other_domain(domain), body=body)

    def prepare_explanation(self, batch: Batch) -> tuple[nn.Module, Batch]:
        """The generator of a subject's direction with a score per modality; see `ModalityScores`.

        Raises:
            ExplanationError: nothing translates this domain.
        """
        domain = batch["domain"][0]
        if not self.translates(domain):
            raise ExplanationError(f"model.directions={self.hparams['directions']}: nothing translates domain {domain}")
        return to_modality_scores(self.generators[direction_of(domain)], batch)

    def export(self, reading: Reading) -> ExportParts:
        """The generator of the chosen domain's scans; results are in the units of the other domain's scanner."""
        domain = reading.domain
        if not self.translates(domain):
            raise ConfigError(f"model.directions={self.hparams['directions']}: nothing translates domain {domain}")
        generator = self.generators[direction_of(domain)]
        size = reading.size or (EXAMPLE, EXAMPLE)
        graph = ExportGraph(
            module=generator,
            inputs={"stack": torch.rand(2, STACK_SLICES * len(MODALITIES), *size) * 2 - 1},
            free={"stack": {} if reading.size else {2: "height", 3: "width"}},
            outputs=["translated"],
            multiple_of=SIDES,
        )
        window = self.typical_intensity(other_domain(domain))
        known = bool(torch.isfinite(window).all()) and bool((window[:, 1] > window[:, 0]).all())
        steps = [
            Translate(graph="network", batch=int(self.hparams["slice_batch"])),
            WriteScans(
                units="target" if known else "source",
                target=tuple((float(low), float(high)) for low, high in window) if known else (),
            ),
        ]
        return ExportParts(graphs={"network": graph}, steps=steps, facts={"direction": direction_of(domain)})

    # -- training --------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Check that training stacks have enough slices for the cycle."""
        super().setup(stage)
        datamodule = self.find_datamodule()
        slices = datamodule.slices if isinstance(datamodule, StacksSlices) else None
        if stage == "fit" and slices is not None and slices < self.step.stack_slices:
            raise ConfigError(
                f"data.slices={slices}: model.cycle={self.hparams['cycle']} needs stacks of {self.step.stack_slices}; "
                f"set data.slices={self.step.stack_slices}"
            )

    def on_fit_start(self) -> None:
        """Measure the typical intensities, and start separate draws on each process."""
        super().on_fit_start()
        self.replays.begin(self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Gradients of a batch, and a step of both optimisers where its window ends."""
        window = self.window(batch_idx)
        sides = {domain: self.step.side(batch[domain]) for domain in "ab"}  # type: ignore[literal-required]
        with self.synchronize_last(window):
            with freeze_parameters(self.discriminators):
                # Spectral norms are updated once per step, so that all passes of a window use the same discriminators.
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
        logged = {
            f"train/{way}/{name}": value.detach() for way, losses in terms.items() for name, value in losses.items()
        }
        logged |= {f"train/{domain}/discriminator": value.detach() for domain, value in judged.items()}
        self.log_dict(logged, batch_size=batch_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save every process's history of fakes."""
        checkpoint["replays"] = self.replays.gather_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the histories of fakes for a continued training."""
        self.replays.resume_from(checkpoint.get("replays"))
