"""Guards of a Trainer: stop at numbers that are not finite, and end by SIGTERM."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies.launchers.launcher import _Launcher
from torch import Tensor

from seewhy.errors import SeewhyError
from seewhy.termination import raise_terminated

__all__ = ["EndOnSigterm", "StopIfNotFinite", "find_non_finite"]


class EndOnSigterm(Callback):
    """Ends every loop at SIGTERM, together with the processes that Lightning started.

    Lightning only ends training loops, between two batches, and with exit status 0. On SLURM with requeueing its
    handler stays, since SLURM sends SIGTERM while Lightning saves the checkpoint that the job continues from.
    """

    def _take_over(self, trainer: Trainer, pl_module: LightningModule) -> None:
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            handlers: Any = signal.getsignal(signal.SIGTERM)
            if hasattr(handlers, "signal_handlers"):  # of Lightning, with that of the command at its end
                own = [item for item in handlers.signal_handlers if inspect.ismethod(item)]
                handlers.signal_handlers[:] = own
            return

        def handle(signum: int, frame: FrameType | None) -> None:
            launcher = trainer.strategy.launcher
            if isinstance(launcher, _Launcher):
                launcher.kill(signum)
            raise_terminated(signum, frame)

        trainer._signal_connector._register_signal(signal.SIGTERM, handle)  # restored with Lightning's own

    on_train_start = on_validation_start = on_test_start = on_predict_start = _take_over


PREDICTED = ("logits", "probability", "maps", "translated", "reconstructed")
"""Keys of a prediction whose numbers must be finite."""


class StopIfNotFinite(Callback):
    """Stops at losses, weights and predictions that are NaN or infinite.

    Losses and weights are looked at before a checkpoint is written, predictions before they are written.
    On a GPU the loss is looked at every `trainer.log_every_n_steps`, so that no step waits for it.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._first: Tensor | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batch, to find the cause."""
        self._batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the first step whose loss is not finite; a CPU stops at once, before the weights are changed."""
        # A scaled loss of 16 bits may be infinite; its step is skipped, and the scale lowered.
        wrong = torch.isnan(loss).any() if loss.dtype == torch.float16 else ~torch.isfinite(loss).all()
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        if self._first is None:
            self._first = torch.full((), -1, dtype=torch.int64, device=loss.device)
        self._first = torch.where((self._first < 0) & wrong.detach(), step, self._first)
        if loss.device.type == "cpu":
            self._check_loss(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss every few steps."""
        if (batch_idx + 1) % max(trainer.log_every_n_steps, 1) == 0:  # type: ignore[attr-defined]
            self._check_loss(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at loss and weights before they are scored and saved."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check_loss(trainer, pl_module)
            self._check_weights(trainer, pl_module)

    def _check_prediction(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not isinstance(outputs, Mapping):
            return
        names = find_non_finite({key: outputs[key] for key in PREDICTED if key in outputs})
        if names:
            samples = [str(name) for name in outputs.get("id", ())]
            inputs = find_non_finite(_keep_data(batch))
            cause = f"{inputs} of the batch are not finite; check these data" if inputs else _advise(trainer)
            after = f"after step {trainer.fit_loop.epoch_loop.total_batch_idx}: " if trainer.state.fn == "fit" else ""
            raise SeewhyError(
                f"{after}predictions ({names}) of samples {', '.join(samples[:3])}{' …' if len(samples) > 3 else ''} "
                f"are not finite{'' if inputs else ', the values overflow'}: {cause}"
            )

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _check_prediction

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at loss and weights before they are saved."""
        self._check_loss(trainer, pl_module)
        self._check_weights(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Release the batch."""
        self._batch = None

    def _check_loss(self, trainer: Trainer, module: LightningModule) -> None:
        step = -1 if self._first is None else int(self._first)
        if step < 0:
            return
        inputs = find_non_finite(_keep_data(self._batch))
        if inputs:
            cause = f"{inputs} of its batch are not finite; check these data"
        elif find_non_finite(dict(module.named_parameters())):
            cause = "the weights are not finite; " + _advise(trainer)
        else:
            cause = "its batch and the weights are finite, so values overflow; " + _advise(trainer)
        raise SeewhyError(f"the loss of step {step} (epoch {trainer.current_epoch}) is not finite: {cause}")

    def _check_weights(self, trainer: Trainer, module: LightningModule) -> None:
        names = find_non_finite(dict(module.named_parameters()))
        if names:
            raise SeewhyError(
                f"after step {trainer.fit_loop.epoch_loop.total_batch_idx} (epoch {trainer.current_epoch}) weights are "
                f"not finite ({names}); {_advise(trainer)}"
            )


def _advise(trainer: Trainer) -> str:
    """Name the options that may help."""
    advice = [] if trainer.precision == "32-true" else ["set trainer.precision=32-true"]
    if trainer.state.fn == "fit":
        advice += ["lower model.optimizer.lr", "set trainer.gradient_clip_val=1"]
    return ", or ".join(advice) or "train again with a lower model.optimizer.lr"


def _keep_data(batch: Any) -> dict[str, Any]:
    """Return the entries of a batch without the spacing, which is NaN where it is unknown."""
    return {key: value for key, value in batch.items() if key != "spacing"} if isinstance(batch, Mapping) else {}


def find_non_finite(values: Any, *, shown: int = 3) -> str:
    """Name the tensors of a mapping (of mappings) that hold NaN or infinity; empty if there are none.

    Example:
        >>> find_non_finite({"image": torch.tensor([1.0, float("nan")]), "label": torch.tensor([0, 1])})
        "'image'"
    """
    names = list(_iterate_non_finite(values, ""))
    return ", ".join(repr(name) for name in names[:shown]) + (f" and {len(names) - shown} more" * (len(names) > shown))


def _iterate_non_finite(values: Any, prefix: str) -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _iterate_non_finite(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, Tensor) and values.is_floating_point() and not bool(torch.isfinite(values).all()):
        yield prefix
