"""Adversarial training with two optimisers by manual optimisation, and histories of fakes for discriminators."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from seewhy.errors import CheckpointError, ConfigError
from seewhy.models.base import BaseModule, build_optimizer, find_optimizer_problems, learning_rate_factor

__all__ = [
    "AccumulationWindow",
    "AdversarialModule",
    "ReplayBuffer",
    "ReplayHistories",
    "SharedGradScaler",
    "freeze_parameters",
]


class SharedGradScaler(torch.amp.GradScaler):
    """A scaler that changes its scale only after every optimiser has stepped.

    Lightning updates the scale after each optimiser's step. The gradients of the next optimiser, which were computed
    with the earlier scale, would then be divided by another one.

    Args:
        scaler: gives the settings.
        optimizers: number of optimisers that share the scale.
        device: type of the gradients' device.
    """

    def __init__(self, scaler: torch.amp.GradScaler, *, optimizers: int, device: str) -> None:
        super().__init__(
            device=device,
            init_scale=scaler.get_scale() if scaler.is_enabled() else 1.0,
            growth_factor=scaler.get_growth_factor(),
            backoff_factor=scaler.get_backoff_factor(),
            growth_interval=scaler.get_growth_interval(),
            enabled=scaler.is_enabled(),
        )
        self._optimizers = optimizers
        self._calls = 0

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Update at every n-th call, once for all optimisers."""
        self._calls += 1
        if self._calls % self._optimizers == 0:
            super().update(new_scale)


OPTIMIZERS = 2


class AccumulationWindow(NamedTuple):
    """Position of a batch among those of one optimiser step.

    Attributes:
        first: whether it is the first batch of the step.
        last: whether the optimisers step after it.
        length: number of batches of the step; fewer at the end of an epoch.
    """

    first: bool
    last: bool
    length: int


@contextmanager
def freeze_parameters(module: nn.Module) -> Iterator[None]:
    """Context in which gradients pass through a module, but its parameters get none."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


class AdversarialModule(BaseModule):
    """Two optimisers that step together: the generators' and the discriminators'.

    Lightning does not accumulate, clip or schedule for a model with two optimisers, so this class does. Both
    optimisers step after all gradients of a window of batches are computed, so their order does not matter, n batches
    of a window give the step of one batch of n times the size, and the scale of half-precision gradients changes for
    both at once. `trainer.global_step` counts the steps of both.

    Expected hyperparameters, in addition to those of `BaseModule`:
        discriminator_optimizer: options of the discriminators' optimiser that differ from `optimizer`; may be None.
        accumulate: batches per step.
        clip: largest norm of all gradients of an optimiser; None clips nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def generator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the first optimiser."""
        raise NotImplementedError

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the second optimiser."""
        raise NotImplementedError

    def configure(self) -> None:
        """Fill the slots.

        Raises:
            ConfigError: `accumulate` below 1, or `clip` not above 0.
        """
        accumulate, clip = self.hparams["accumulate"], self.hparams["clip"]
        problems = [f"model.accumulate={accumulate} must be 1 or more batches"] * (accumulate < 1)
        problems += [f"model.clip={clip} must be above 0, or null"] * (clip is not None and clip <= 0)
        if other := self.hparams["discriminator_optimizer"]:
            problems += find_optimizer_problems({**self.hparams["optimizer"], **other}, "model.discriminator_optimizer")
        if problems:
            raise ConfigError("; ".join(problems))
        super().configure()

    def configure_callbacks(self) -> Sequence[Callback] | Callback:
        """Check options of the Trainer, in the first hook, so that the errors come before Lightning's."""
        remedy = "with two optimisers set model.{} instead"
        problems = []
        if (count := self.trainer.accumulate_grad_batches) != 1:
            problems.append(f"trainer.accumulate_grad_batches={count}: {remedy.format('accumulate')}")
        if (norm := self.trainer.gradient_clip_val) is not None:
            problems.append(f"trainer.gradient_clip_val={norm}: {remedy.format('clip')}")
        if problems:
            raise ConfigError("; ".join(problems))
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Use one scale of half-precision gradients for both optimisers."""
        plugin = self.trainer.precision_plugin
        if stage == "fit" and isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
            plugin.scaler = SharedGradScaler(plugin.scaler, optimizers=OPTIMIZERS, device=plugin.device)

    def total_steps(self) -> int:
        """Steps of each optimiser in this fit."""
        trainer = self.trainer
        super().total_steps()  # also makes the loaders, which give the length of an epoch
        limit = trainer.max_steps // OPTIMIZERS if trainer.max_steps != -1 else math.inf
        epochs = trainer.max_epochs
        if epochs is None or epochs < 0 or math.isinf(trainer.num_training_batches):
            return int(limit)
        per_epoch = math.ceil(trainer.num_training_batches / self.hparams["accumulate"])
        return int(min(per_epoch * max(epochs, 1), limit))

    def configure_optimizers(self) -> Any:
        """Build both optimisers with the same schedule of learning rates."""
        options = dict(self.hparams["optimizer"])
        other = {**options, **(self.hparams["discriminator_optimizer"] or {})}
        optimizers = [
            build_optimizer(options, [{"params": self.generator_parameters()}]),
            build_optimizer(
                other, [{"params": self.discriminator_parameters()}], where="model.discriminator_optimizer"
            ),
        ]
        factor = partial(learning_rate_factor, total=self.schedule_steps(), **self.hparams["scheduler"])
        return optimizers, [
            {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "name": f"lr-{name}"}
            for optimizer, name in zip(optimizers, ("generator", "discriminator"), strict=True)
        ]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed draws by (seed, batch, rank): batches of one window have the same step and must draw differently."""
        seed, number = int(self.hparams["seed"]), self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed((seed * 1_000_003 + number) * 1_024 + self.global_rank)

    def window(self, batch_idx: int) -> AccumulationWindow:
        """Position of a batch in its window; the last batch of an epoch always ends a window."""
        first = batch_idx - batch_idx % self.hparams["accumulate"]
        end = int(min(first + self.hparams["accumulate"], self.trainer.num_training_batches))
        return AccumulationWindow(batch_idx == first, batch_idx + 1 == end, end - first)

    def synchronize_last(self, window: AccumulationWindow) -> AbstractContextManager[None]:
        """Context of a batch's backward passes; under DDP, only the last batch of a window exchanges gradients."""
        strategy = self.trainer.strategy
        if window.last or not isinstance(strategy, ParallelStrategy) or self.trainer.world_size == 1:
            return nullcontext()
        context: AbstractContextManager[None] = strategy.block_backward_sync()
        return context

    def step_optimizers(self) -> None:
        """Step both optimisers and their schedules, and clear the gradients."""
        optimizers: Any = self.optimizers()
        schedulers: Any = self.lr_schedulers()
        for optimizer in optimizers:
            optimizer.step()
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients; those of half precision are already unscaled."""
        if self.hparams["clip"] is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.hparams["clip"])


class ReplayBuffer:
    """A history of fakes (Shrivastava 2017, section 2.3; as CycleGAN uses it, Zhu 2017, section 4).

    Until it is full, each image is stored and returned. Afterwards each image is returned unchanged with probability
    1/2, or replaces a stored image, which is returned instead.

    It draws from a separate generator on the CPU, so that it neither waits for a device nor changes other draws, and
    a restored state continues exactly. It is not an `nn.Module`, so its images are neither averaged nor broadcast.

    Args:
        capacity: number of stored images, 50 as published; 0 returns every image unchanged.
        seed: seed of the draws; under DDP one per rank.

    Example:
        >>> import torch
        >>> buffer = ReplayBuffer(2)
        >>> _ = buffer(torch.zeros(2, 1, 4, 4))
        >>> len(buffer), buffer(torch.ones(3, 1, 4, 4)).shape
        (2, torch.Size([3, 1, 4, 4]))
    """

    def __init__(self, capacity: int = 50, *, seed: int = 0) -> None:
        if capacity < 0:
            raise ConfigError(f"model.replay={capacity} must be 0 or more images")
        self.capacity = capacity
        self.images: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, batch: Tensor) -> Tensor:
        """Exchange new fakes [B, C, H, W] one after another for fakes to judge, without a graph."""
        return torch.stack([self._exchange(image) for image in batch.detach()]) if self.capacity else batch.detach()

    def state_dict(self) -> dict[str, Any]:
        """Stored images on the CPU and the state of the draws: tensors and numbers."""
        images = torch.stack([image.cpu() for image in self.images]) if self.images else torch.empty(0)
        return {"capacity": self.capacity, "images": images, "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of `state_dict`; the images are on the CPU until they are exchanged.

        Args:
            state: state of a buffer of the same capacity.

        Raises:
            CheckpointError: the state has another capacity.
        """
        if state["capacity"] != self.capacity:
            raise CheckpointError(
                f"the checkpoint's replay buffer holds {state['capacity']} images, model.replay={self.capacity}; "
                "continue with the value it was trained with"
            )
        self.images = [image.clone() for image in state["images"].cpu()]
        self._random.set_state(state["random"].cpu())

    def _exchange(self, image: Tensor) -> Tensor:
        if len(self.images) < self.capacity:
            self.images.append(image.clone())
            return image
        if torch.rand((), generator=self._random) < 0.5:
            return image
        number = int(torch.randint(self.capacity, (), generator=self._random))
        stored = self.images[number].to(image)
        self.images[number] = image.clone()
        return stored


class ReplayHistories:
    """A `ReplayBuffer` for each domain, with separate draws on each process.

    Args:
        domains: names of the domains.
        capacity: see `ReplayBuffer`.
        seed: seed of all draws.
    """

    def __init__(self, domains: Iterable[str], *, capacity: int, seed: int) -> None:
        self.domains, self.capacity, self.seed = tuple(domains), capacity, seed
        self.buffers: dict[str, ReplayBuffer] = {}
        self._saved: list[dict[str, Any]] | None = None
        self.begin(0)

    def begin(self, rank: int) -> None:
        """Start with empty histories, or with those of the checkpoint of a continued training.

        Args:
            rank: rank of this process.
        """
        self.buffers = {
            # The seeds differ from those of all other draws of the run, for any seed of the run.
            domain: ReplayBuffer(self.capacity, seed=(self.seed * 1_024 + rank) * 2 + number + 7_919)
            for number, domain in enumerate(self.domains)
        }
        saved, self._saved = self._saved, None
        if saved is None:
            return
        if rank >= len(saved):
            rank_zero_warn(
                f"the checkpoint has histories of fakes of {len(saved)} processes; the others start with empty ones"
            )
            return
        for domain, state in saved[rank].items():
            self.buffers[domain].load_state_dict(state)

    def exchange(self, fakes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Exchange new fakes [B, C, H, W] of each domain for fakes to judge; see `ReplayBuffer`."""
        return {domain: self.buffers[domain](fake) for domain, fake in fakes.items()}

    def gather_state(self) -> list[dict[str, Any]]:
        """States of all processes in the order of their ranks; every process must call this."""
        state = {domain: buffer.state_dict() for domain, buffer in self.buffers.items()}
        if not (dist.is_available() and dist.is_initialized()):
            return [state]
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, state)
        return parts

    def resume_from(self, saved: list[dict[str, Any]] | None) -> None:
        """Use these states at the next `begin`."""
        self._saved = saved
