"""Base class of models, with slots for networks, losses and metrics, and optimisers built from plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, get_args

import torch
from lightning.pytorch import LightningModule
from torch import nn

from seewhy.errors import ConfigError
from seewhy.option_types import Fraction, NonNegativeFloat, NonNegativeInt, find_value_problem
from seewhy.options import OptionsOf, call_problems, check_choice, choice_problems

__all__ = [
    "BaseModule",
    "OptimizerOptions",
    "SchedulerOptions",
    "build_optimizer",
    "find_optimizer_problems",
    "learning_rate_factor",
]

Schedule: TypeAlias = Literal["constant", "poly", "cosine", "linear"]
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


def learning_rate_factor(
    step: int,
    *,
    name: Schedule,
    total: int,
    warmup: NonNegativeInt | Fraction = 0,
    warmup_ratio: NonNegativeFloat = 1e-6,
    power: NonNegativeFloat = 1.0,
    decay_from: NonNegativeInt | Fraction = 0,
    floor: Fraction = 0.0,
) -> float:
    """Factor on the base learning rate at optimiser step `step` (counted from 0).

    Linear warm-up from `warmup_ratio` to 1 over `warmup` steps (int) or that share of all steps (float), then
    `constant`, or down to `floor` at `total`: `poly` ((1 - step / total)^power, counted from step 0 as SegFormer's
    recipe does), `cosine`, or `linear`, which stays at 1 until `decay_from`, in steps (int) or a share of all (float),
    as CycleGAN's recipe does (Zhu 2017, section 4: 0.5).

    Example:
        >>> [learning_rate_factor(step, name="linear", total=10, decay_from=0.5) for step in (0, 5, 8)]
        [1.0, 1.0, 0.4]
    """
    check_choice(name, get_args(Schedule), "model.scheduler.name")
    warmup, decay_from = (round(part * total) if isinstance(part, float) else part for part in (warmup, decay_from))
    if step < warmup:
        return warmup_ratio + (1.0 - warmup_ratio) * step / warmup
    done = min(step / max(total, 1), 1.0)
    shape = 1.0
    if name == "poly":
        shape = (1.0 - done) ** power
    elif name == "cosine":
        shape = 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup, total)))
    elif name == "linear":
        shape = 1.0 - _progress(step, max(warmup, decay_from), total)
    return floor + (1.0 - floor) * shape


def _progress(step: int, first: float, last: int) -> float:
    """Position of `step` between two steps, in [0, 1]."""
    return min(max(step - first, 0) / max(last - first, 1), 1.0)


def build_optimizer(
    options: Mapping[str, Any], groups: Sequence[dict[str, Any]], *, where: str = "model.optimizer"
) -> torch.optim.Optimizer:
    """Build an optimiser from plain data.

    Args:
        options: `name`, `lr` and further options of the optimiser.
        groups: see `BaseModule.parameter_groups`; `lr_scale` is a factor on `lr`.
        where: dotted name of the options, for messages.

    Raises:
        ConfigError: unknown optimiser or options, or values that it does not take.

    Example:
        >>> import torch
        >>> weights = torch.nn.Linear(2, 1).parameters()
        >>> optimizer = build_optimizer({"name": "adamw", "lr": 0.01}, [{"params": list(weights), "lr_scale": 0.5}])
        >>> type(optimizer).__name__, optimizer.param_groups[0]["lr"]
        ('AdamW', 0.005)
    """
    problems = find_optimizer_problems(options, where)
    if problems:
        raise ConfigError("; ".join(problems))
    settings = dict(options)
    name, lr = str(settings.pop("name")), float(settings.pop("lr"))
    scaled = [{**group, "lr": lr * float(group.get("lr_scale", 1.0))} for group in groups]
    for group in scaled:
        group.pop("lr_scale", None)
    return OPTIMIZERS[name](scaled, **settings)


def find_optimizer_problems(options: Mapping[str, Any], where: str) -> list[str]:
    """List the problems of the options of an optimiser; the optimiser itself checks the ranges of its numbers.

    Example:
        >>> from seewhy.models.base import find_optimizer_problems
        >>> find_optimizer_problems({"name": "adam", "lr": -1.0}, "model.optimizer")
        ['model.optimizer.lr=-1.0 must be a number, 0 or more']
    """
    missing = [f"{where}.{key} must be given" for key in ("name", "lr") if options.get(key) is None]
    if missing:
        return missing
    settings = {key: value for key, value in options.items() if key != "name"}
    name = options["name"]
    problems = choice_problems(name, OPTIMIZERS, f"{where}.name")
    problems = problems or call_problems(OPTIMIZERS[name], settings, where, fixed=("params",))
    if problem := find_value_problem(options["lr"], NonNegativeFloat, f"{where}.lr"):
        problems = [*(line for line in problems if f"{where}.lr=" not in line), problem]
    if not problems:
        try:
            OPTIMIZERS[name]([nn.Parameter(torch.zeros(1))], **settings)
        except (TypeError, ValueError, RuntimeError) as error:
            problems = [f"{where}: {error}"]
    return problems


OptimizerOptions: TypeAlias = Annotated[Mapping[str, Any], find_optimizer_problems]
"""`name` of `OPTIMIZERS`, `lr`, and further options of that class."""
SchedulerOptions: TypeAlias = Annotated[Mapping[str, Any], OptionsOf(learning_rate_factor, ("step", "total"))]
"""`name` and options of `learning_rate_factor`."""


class BaseModule(LightningModule):
    """A LightningModule with named slots, plain-data hyperparameters and randomness that survives a resume.

    Subclasses call `save_hyperparameters()` and then `self.configure()`; they fill `configure_nets`,
    `configure_losses` and `configure_metrics`, and may split parameters in `parameter_groups`.

    Expected hyperparameters: `optimizer = {name, lr, weight_decay, ...}` and
    `scheduler = {name, warmup, warmup_ratio, power, decay_from, floor}`; both are plain data, so a checkpoint needs no
    pickle.
    """

    def configure(self) -> None:
        """Check optimiser and schedule, and fill the slots, in this order.

        Raises:
            ConfigError: options that do not exist, or values that they do not take.
        """
        problems = find_optimizer_problems(self.hparams["optimizer"], "model.optimizer")
        problems += call_problems(
            learning_rate_factor, self.hparams["scheduler"], "model.scheduler", fixed=("step", "total")
        )
        if problems:
            raise ConfigError("; ".join(problems))
        self.configure_nets()
        self.configure_losses()
        self.configure_metrics()

    def configure_nets(self) -> None:
        """Build the networks from plain hyperparameters."""

    def configure_losses(self) -> None:
        """Build the loss functions."""

    def configure_metrics(self) -> None:
        """Build the metrics."""

    def backbones(self) -> Sequence[nn.Module]:
        """Networks that the command's `weights` are loaded into; by default the submodule `encoder`, if any."""
        return [module for name, module in self.named_children() if name == "encoder"]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of `{"params": [...], "lr_scale": float}`; by default one group of all trainable parameters."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr_scale": 1.0}]

    def find_datamodule(self) -> object:
        """The DataModule of the Trainer; None if it was called with DataLoaders."""
        return getattr(self.trainer, "datamodule", None)  # Lightning sets it only where one was given

    def total_steps(self) -> int:
        """Number of optimiser steps of this fit.

        Raises:
            ConfigError: a training without an end.
        """
        estimated = self.trainer.estimated_stepping_batches
        if math.isinf(estimated):
            raise ConfigError(
                "trainer.max_epochs=-1 has no end, which a schedule in shares of all steps needs; set a number of "
                "epochs, or model.scheduler.name=constant with a number of steps as model.scheduler.warmup"
            )
        return int(estimated)

    def schedule_steps(self) -> int:
        """Number of steps that the schedule of the learning rate is spread over; 0 for one that needs no end."""
        scheduler = self.hparams["scheduler"]
        endless = scheduler["name"] == "constant" and not isinstance(scheduler.get("warmup", 0), float)
        return 0 if endless and math.isinf(self.trainer.estimated_stepping_batches) else self.total_steps()

    def configure_optimizers(self) -> Any:
        """Build optimiser and per-step schedule from `hparams.optimizer` and `hparams.scheduler`."""
        optimizer = build_optimizer(self.hparams["optimizer"], self.parameter_groups())
        factor = partial(learning_rate_factor, total=self.schedule_steps(), **self.hparams["scheduler"])
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout and other draws of this step by (seed, step, rank), so that a resumed run repeats them."""
        seed = int(self.hparams.get("seed", 0))
        torch.manual_seed((seed * 1_000_003 + self.global_step) * 1_024 + self.global_rank)

    def count_parameters(self) -> int:
        """Number of parameters, frozen ones included."""
        return sum(p.numel() for p in self.parameters())
