"""Predict a volume of any size in one pass: `predict.py volume.input=… volume.output=…`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, open_dict
from torch import Tensor

from seewhy.callbacks.volumes.engine import VolumeProgress, VolumeWriter
from seewhy.errors import ConfigError, SeewhyError, nearest
from seewhy.io.zarr.existing import remove
from seewhy.io.zarr.sink import VolumeSink
from seewhy.io.zarr.source import VolumeSource
from seewhy.io.zarr.store import is_remote, local_folder
from seewhy.option_types import parse_bytes
from seewhy.run.build import build_trainer, set_threads, to_plain_data
from seewhy.run.figure_files import with_figure_options
from seewhy.run.volumes.input import check_input, open_input, read_roi
from seewhy.run.volumes.jobs import submit_prediction
from seewhy.run.volumes.model import VolumeModel, load_volume_model
from seewhy.run.volumes.output import (
    choose_shard,
    describe_output,
    make_logit_store,
    make_sink,
    print_estimate,
    print_results,
)
from seewhy.run.volumes.output_file import OutputFile, choose_output
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.estimate import estimate
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import Costs, return_freed_memory
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, make_plan
from seewhy.volumes.predictor import PatchPredictor
from seewhy.volumes.stored_logits import LogitStore

__all__ = ["VolumePrediction", "predict_volume"]

PRECISIONS = {"32-true": "32", "32": "32", "bf16-mixed": "bf16", "16-mixed": "16"}
"""Precision of the networks for each `trainer.precision`; sums stay in float32."""
TRAINER_OPTIONS = {
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "precision": "32-true",
    "limit_predict_batches": None,
    "use_distributed_sampler": False,
}
"""Overrides for a prediction: `VolumeProgress` is the progress bar, and the predictor sets the precision."""


class VolumePrediction(LightningModule):
    """Networks in a `PatchPredictor`, applied to the batches of a `VolumeEngine`.

    The networks belong to the predictor, which has moved them to their device and disabled gradients; they are not
    submodules, so Lightning neither wraps nor broadcasts them.

    Args:
        predictor: maps patches to logits.
        engine: yields the batches; `VolumeWriter` passes their logits back to it.
        create: creates or opens the output; called with True by rank 0, then with False by the others.
    """

    def __init__(self, predictor: PatchPredictor, engine: VolumeEngine, *, create: Callable[[bool], None]) -> None:
        super().__init__()
        self.engine = engine
        self._predictor, self._create = predictor, create

    def setup(self, stage: str) -> None:
        """Create the output once all processes have started."""
        if self.trainer.is_global_zero:
            self._create(True)
        self.trainer.strategy.barrier("the output exists")
        if not self.trainer.is_global_zero:
            self._create(False)

    def predict_dataloader(self) -> Any:
        """The engine itself."""
        return self.engine

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Logits [B, K, *patch] of a batch of patches."""
        return self._predictor(batch["image"])


@dataclass(frozen=True)
class VolumeJob:
    """Everything that is decided before anything is written."""

    source: VolumeSource
    model: VolumeModel
    predictor: PatchPredictor
    normalize: ChannelNormalization
    plan: Plan
    part: int
    seconds_per_patch: float


@with_figure_options
def predict_volume(config: DictConfig) -> None:
    """Predict `volume.input` into `volume.output`, or print what that would cost (`volume.job.estimate`).

    Raises:
        SeewhyError: an option, a file or a model that the user can correct, or a store that fails.
    """
    volume = config.volume
    target = choose_output(str(volume.output or ""), overwrite=bool(volume.overwrite))
    _check_paths(volume)
    if volume.job.executor == "submitit" and not volume.job.estimate:
        _check_executor(volume, target)
        submit_prediction(config, predict_volume)
        return
    return_freed_memory()  # before any network is loaded
    set_threads(config)
    seed_everything(config.seed, workers=True, verbose=False)
    model, source = load_volume_model(config), open_input(volume, writes=not volume.job.estimate)
    warning = check_input(source, model, volume)
    trainer = _build_trainer(config)
    job = _prepare_job(config, trainer, model, source)
    if volume.job.estimate:
        if trainer.is_global_zero:
            costs = estimate(
                job.plan,
                source,
                seconds_per_patch=job.seconds_per_patch,
                skip_empty=volume.inference.skip_empty,
                keep_logits=volume.job.keep_logits,
            )
            print_estimate(costs, source, model.name, warning)
        return
    budget, parts = parse_bytes(volume.job.memory_budget), volume.job.num_parts
    target.check(job.plan.costs.output_format, source.shape[1:], memory_budget=budget, parts=parts)
    description = describe_output(volume, source, model)
    sink: VolumeSink | LogitStore
    if volume.job.keep_logits:
        sink = make_logit_store(volume, job.plan, description)
    else:
        options = to_plain_data(volume.storage_options)
        sink = make_sink(target.store, job.plan.costs.output_format, job.plan, description, options=options)
    ledger = Ledger(_ledger_folder(volume, sink), lease=volume.job.lease)
    engine = _build_engine(volume, job, sink, ledger)
    module = VolumePrediction(
        job.predictor, engine, create=lambda first: _create_output(sink, ledger, volume, target, first=first)
    )
    try:
        trainer.predict(module, return_predictions=False)
    except SeewhyError:
        if trainer.world_size == 1 and sink.is_new and not ledger.is_used:
            remove(sink.path, to_plain_data(volume.storage_options))  # nothing in it to continue from
        raise
    trainer.strategy.barrier("everything is written")
    engine.finish()  # all ranks build the coarser levels
    if trainer.is_global_zero:
        print_results(config, engine, sink, target, warning=warning)


def _check_executor(volume: DictConfig, target: OutputFile) -> None:
    """Refuse options with which jobs would disturb each other."""
    if target.path is not None:
        raise ConfigError(f"{target.path}: several jobs can only share a store; choose a name that ends in .zarr")
    if volume.overwrite:
        raise ConfigError("volume.overwrite=true with volume.job.executor: remove the output, or choose another one")


def _check_paths(volume: DictConfig) -> None:
    """Refuse an output inside the input, or the reverse, because creating one could delete the other."""
    paths = [local_folder(str(path)) for path in (volume.input, volume.output) if path is not None]
    if len(paths) < 2 or paths[0] is None or paths[1] is None:
        return
    source, output = (path.resolve() for path in paths if path is not None)
    if source == output or source in output.parents or output in source.parents:
        raise ConfigError(
            f"volume.output={volume.output} and volume.input={volume.input} contain each other; choose another output"
        )


def _create_output(
    sink: VolumeSink | LogitStore, ledger: Ledger, volume: DictConfig, target: OutputFile, *, first: bool
) -> None:
    """Create or open the output; a store of logits already exists."""
    if first and (volume.overwrite or target.path is not None):
        ledger.check_unused()
    if isinstance(sink, VolumeSink):
        new = sink.create(overwrite=bool(volume.overwrite) and first, exist_ok=True)
    else:
        new = sink.is_new
    if new:
        ledger.clear(output=sink.identity)  # a ledger outside the output may hold notes of one that was removed


def _build_trainer(config: DictConfig) -> Trainer:
    """Build the configured Trainer with the options of a prediction."""
    if config.trainer is None:
        raise ConfigError("trainer must be given, e.g. trainer=cpu or trainer=gpu")
    bars: list[Callback] = [VolumeProgress()] if config.trainer.get("enable_progress_bar", True) else []
    config = config.copy()
    with open_dict(config):
        config.trainer.update(TRAINER_OPTIONS)
    return build_trainer(config, [VolumeWriter(), *bars], [])


def _prepare_job(config: DictConfig, trainer: Trainer, model: VolumeModel, source: VolumeSource) -> VolumeJob:
    """Run the network on one batch, and divide the volume into tiles."""
    volume, precision = config.volume, str(config.trainer.get("precision", "32-true"))
    inference, store, options = volume.inference, volume.store, volume.job
    if precision not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision={precision} is not supported for volumes; {nearest(precision, PRECISIONS)}"
        )
    if store.dtype == "logits":
        raise ConfigError(
            "volume.store.dtype=logits is not supported: use volume.job.keep_logits=true, then python -m seewhy blend"
        )
    patch = model.patch
    assert patch is not None  # load_volume_model requires it
    predictor = PatchPredictor(
        model.networks,
        mirror_axes=model.choose_mirror_axes(to_plain_data(inference.tta)),
        batch_size=inference.batch_size,
        precision=PRECISIONS[precision],
        device=trainer.strategy.root_device,
    )
    normalize = ChannelNormalization(model.normalization or (), channels=source.shape[0])
    channels, seconds = _time_patch(predictor, source.shape[0], patch)
    mode = store.mode or model.mode or ("binary" if channels < 3 else "multiclass")
    output_format = OutputFormat(
        mode=mode,
        channels=channels,
        stored=store.dtype,
        threshold=store.threshold,
        class_order=model.class_order if mode == "regions" else None,
    )
    parts, part = _parts(volume, trainer)
    shard = choose_shard(source.shape[1:], volume)
    costs = Costs(
        grid=PatchGrid(shape=source.shape[1:], patch=patch, overlap=inference.overlap),
        output_format=output_format,
        channels=source.shape[0],
        itemsize=source.dtype.itemsize,
        chunks=source.chunks,
        shard=shard,
        batch_size=inference.batch_size,
    )
    plan = make_plan(costs, memory_budget=parse_bytes(options.memory_budget), parts=parts, roi=read_roi(volume))
    return VolumeJob(source, model, predictor, normalize, plan, part, seconds)


def _build_engine(volume: DictConfig, job: VolumeJob, sink: VolumeSink | LogitStore, ledger: Ledger) -> VolumeEngine:
    settings = {"weights": job.model.sha256, "network": job.model.network, **job.predictor.settings()}
    return VolumeEngine(
        source=job.source,
        sink=sink,
        window=BlendingWindow(
            job.plan.costs.grid, kind=volume.inference.window, sigma_scale=volume.inference.sigma_scale
        ),
        output_format=job.plan.costs.output_format,
        normalize=job.normalize,
        plan=job.plan,
        ledger=ledger,
        settings=settings,
        part=job.part,
        skip_empty=volume.inference.skip_empty,
        device=job.predictor.device,
    )


def _time_patch(predictor: PatchPredictor, channels: int, patch: Sequence[int]) -> tuple[int, float]:
    """Channels of the logits, and seconds per patch with all mirrors and folds."""
    count = predictor.probe(channels, patch)
    image = torch.zeros((predictor.batch_size, channels, *patch), device=predictor.device)
    started = time.monotonic()
    predictor(image).sum().item()  # the sum waits for a GPU
    return count, (time.monotonic() - started) / predictor.batch_size


def _parts(volume: DictConfig, trainer: Trainer) -> tuple[int, int]:
    """Number of processes that are expected, over all machines and jobs, and the place of this one among them."""
    count, number = volume.job.num_parts, volume.job.part_id
    if count < 1 or not 0 <= number < count:
        raise ConfigError(f"volume.job.part_id={number} of {count} parts; expected 0 to num_parts - 1")
    if count > 1 and volume.overwrite:
        raise ConfigError(
            "volume.overwrite=true with volume.job.num_parts: each part would delete what the others wrote"
        )
    return count * trainer.world_size, number * trainer.world_size + trainer.global_rank


def _ledger_folder(volume: DictConfig, sink: VolumeSink | LogitStore) -> Path:
    """Folder of the progress notes: `volume.job.ledger`, or inside a local output."""
    if volume.job.ledger is not None:
        if is_remote(volume.job.ledger):
            raise ConfigError(
                f"volume.job.ledger={volume.job.ledger} is not a folder of this machine: processes claim their work "
                "with files that only one of them can create; choose a local or network folder that all of them see"
            )
        folder = Path(volume.job.ledger)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"volume.job.ledger={folder} cannot be made ({error.strerror})") from error
        return folder
    if sink.bookkeeping is None:
        raise ConfigError(f"volume.job.ledger must be given for {sink.path}: a local folder that all processes see")
    return sink.bookkeeping
