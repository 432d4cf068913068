"""`predict.py volume.input=… volume.output=…`: a volume of any size through a network, in one pass.

The LightningModule that predicts patches of a volume.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, open_dict
from torch import Tensor

from seewhy.callbacks.volumes.engine_hook import VolumeWriter
from seewhy.callbacks.volumes.progress import VolumeProgress
from seewhy.errors import ConfigError, nearest
from seewhy.io.zarr.opening import VolumeSource
from seewhy.io.zarr.sink import VolumeSink
from seewhy.io.zarr.store import is_remote, local_folder
from seewhy.run.build import build_trainer, set_threads
from seewhy.run.volumes.input import check_input, open_input, region
from seewhy.run.volumes.model import VolumeModel, find_model
from seewhy.run.volumes.output import describe_output, keep_logits, make_sink, plain, shard_of
from seewhy.run.volumes.results import say_estimate, say_results
from seewhy.volumes.engine.engine import VolumeEngine
from seewhy.volumes.engine.ledger import Ledger
from seewhy.volumes.estimate import OccupancySource, estimate
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import Costs, parse_bytes, return_freed_memory
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Plan, make_plan
from seewhy.volumes.predictor import PatchPredictor
from seewhy.volumes.stored_logits import LogitStore

__all__ = ["VolumePrediction", "predict_volume"]


class VolumePrediction(LightningModule):
    """Networks in a `PatchPredictor`, over the batches of a `VolumeEngine`.

    The networks are the predictor's, which has moved them to their device and asks for no gradients; so they are no
    submodules here, and nothing is wrapped or broadcast.

    Args:
        predictor: from patches to logits.
        engine: gives the batches; `VolumeWriter` gives their logits back to it.
        create: makes the output or finds it there; called with True by rank 0, then with False by the others.
    """

    def __init__(self, predictor: PatchPredictor, engine: VolumeEngine, *, create: Callable[[bool], None]) -> None:
        super().__init__()
        self.engine = engine
        self._predictor, self._create = predictor, create

    def setup(self, stage: str) -> None:
        """Make the output, once all processes are there."""
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


PRECISIONS = {"32-true": "32", "32": "32", "bf16-mixed": "bf16", "16-mixed": "16"}
"""What `trainer.precision` means for the networks; sums stay in float32."""
NOT_FOR_PREDICTION = {
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "precision": "32-true",
    "limit_predict_batches": None,
    "use_distributed_sampler": False,
}
"""Of the Trainer: the bar is ours, and the networks' precision is the predictor's affair."""


@dataclass(frozen=True)
class VolumeJob:
    """Everything that is settled before anything is written."""

    source: VolumeSource
    model: VolumeModel
    predictor: PatchPredictor
    head: OutputFormat
    normalize: ChannelNormalization
    plan: Plan
    part: int
    seconds_per_patch: float


def predict_volume(config: DictConfig) -> None:
    """Predict `volume.input` into `volume.output`, or say what that would cost.

    Raises:
        SeewhyError: whatever a user can mend: options, files, a model that does not fit, a store that fails.
    """
    volume = config.volume
    return_freed_memory()  # before any network is loaded
    set_threads(config)
    seed_everything(config.seed, workers=True, verbose=False)
    model, source = find_model(config), open_input(volume, writes=not volume.estimate)
    note = check_input(source, model, volume)
    _check_apart(volume)
    trainer = _trainer(config)
    job = _settle(config, trainer, model, source)
    if volume.estimate:
        if trainer.is_global_zero:
            costs = estimate(
                job.plan,
                source,
                seconds_per_patch=job.seconds_per_patch,
                skip_empty=volume.skip_empty,
                keep_logits=volume.keep_logits,
            )
            say_estimate(costs, source, model.name, note)
        return
    description = describe_output(volume, source, model)
    sink: VolumeSink | LogitStore
    if volume.keep_logits:
        sink = keep_logits(volume, job.plan, description)
    else:
        sink = make_sink(volume.output, job.head, job.plan, description, options=plain(volume.storage_options))
    ledger = Ledger(_ledger_folder(volume, sink))
    engine = _engine(volume, job, sink, ledger)
    module = VolumePrediction(job.predictor, engine, create=lambda first: _create(sink, ledger, volume, first=first))
    trainer.predict(module, return_predictions=False)
    trainer.strategy.barrier("everything is written")
    if trainer.is_global_zero:
        engine.finish()
        say_results(config, engine, sink, note=note)


def _check_apart(volume: DictConfig) -> None:
    """Refuse an output that lies in the input, or the other way round: making one could delete the other."""
    paths = [local_folder(str(path)) for path in (volume.input, volume.output) if path is not None]
    if len(paths) < 2 or paths[0] is None or paths[1] is None:
        return
    given, made = (path.resolve() for path in paths if path is not None)
    if given == made or given in made.parents or made in given.parents:
        raise ConfigError(
            f"volume.output={volume.output} and volume.input={volume.input} lie in each other; choose another output"
        )


def _create(sink: VolumeSink | LogitStore, ledger: Ledger, volume: DictConfig, *, first: bool) -> None:
    """Make the output, or find it there; a store of logits is there already."""
    if isinstance(sink, VolumeSink):
        new = sink.create(overwrite=bool(volume.overwrite) and first, exist_ok=True)
    else:
        new = sink.is_new
    if new:
        ledger.clear(output=sink.identity)  # notes that lie elsewhere may be of an output that was removed


def _trainer(config: DictConfig) -> Trainer:
    """The configured Trainer without what does not belong here."""
    if config.trainer is None:
        raise ConfigError("trainer is not chosen, e.g. trainer=cpu or trainer=gpu")
    shown: list[Callback] = [VolumeProgress()] if config.trainer.get("enable_progress_bar", True) else []
    config = config.copy()
    with open_dict(config):
        config.trainer.update(NOT_FOR_PREDICTION)
    return build_trainer(config, [VolumeWriter(), *shown], [])


def _settle(config: DictConfig, trainer: Trainer, model: VolumeModel, source: VolumeSource) -> VolumeJob:
    """Try the network on one batch, and cut the volume into tiles."""
    volume, precision = config.volume, str(config.trainer.get("precision", "32-true"))
    if precision not in PRECISIONS:
        raise ConfigError(f"trainer.precision={precision} is not for volumes; {nearest(precision, PRECISIONS)}")
    patch = model.patch
    assert patch is not None
    predictor = PatchPredictor(
        model.networks,
        mirror_axes=model.mirrored(plain(volume.tta)),
        batch_size=volume.batch_size,
        precision=PRECISIONS[precision],
        device=trainer.strategy.root_device,
    )
    if volume.dtype == "logits":
        raise ConfigError(
            "volume.dtype=logits: logits are kept by volume.keep_logits=true; python -m seewhy blend adds them"
        )
    normalize = ChannelNormalization(model.normalization or (), channels=source.shape[0])
    channels, seconds = _tried(predictor, source.shape[0], patch)
    mode = volume.mode or model.mode or ("binary" if channels < 3 else "multiclass")
    head = OutputFormat(
        mode=mode,
        channels=channels,
        stored=volume.dtype,
        threshold=volume.threshold,
        class_order=model.class_order if mode == "regions" else None,
    )
    parts, part = _parts(volume, trainer)
    shard = shard_of(source.shape[1:], volume)
    costs = Costs(
        grid=PatchGrid(shape=source.shape[1:], patch=patch, overlap=volume.overlap),
        head=head,
        channels=source.shape[0],
        itemsize=source.dtype.itemsize,
        chunks=source.chunks,
        shard=shard,
        batch_size=volume.batch_size,
    )
    # Asking a web server for every chunk would take longer than an uneven deal.
    weighed = parts > 1 and volume.skip_empty and not is_remote(source.path)
    plan = make_plan(
        costs,
        memory_budget=parse_bytes(volume.memory_budget),
        parts=parts,
        roi=region(volume),
        occupancy=OccupancySource(source, shard) if weighed else None,
    )
    return VolumeJob(source, model, predictor, head, normalize, plan, part, seconds)


def _engine(volume: DictConfig, job: VolumeJob, sink: VolumeSink | LogitStore, ledger: Ledger) -> VolumeEngine:
    """What fills the output."""
    settings = {"weights": job.model.sha256, "network": job.model.network, **job.predictor.settings()}
    return VolumeEngine(
        source=job.source,
        sink=sink,
        window=BlendingWindow(job.plan.costs.grid, kind=volume.window),
        head=job.head,
        normalize=job.normalize,
        plan=job.plan,
        ledger=ledger,
        settings=settings,
        part=job.part,
        skip_empty=volume.skip_empty,
        device=job.predictor.device,
    )


def _tried(predictor: PatchPredictor, channels: int, patch: Sequence[int]) -> tuple[int, float]:
    """Channels of the logits, and seconds per patch with all mirrors and folds."""
    import torch

    count = predictor.probe(channels, patch)
    image = torch.zeros((predictor.batch_size, channels, *patch), device=predictor.device)
    started = time.monotonic()
    predictor(image).sum().item()  # the sum waits for a GPU
    return count, (time.monotonic() - started) / predictor.batch_size


def _parts(volume: DictConfig, trainer: Trainer) -> tuple[int, int]:
    """How many processes share the work, over all machines and jobs, and which of them this is."""
    if volume.num_parts < 1 or not 0 <= volume.part_id < volume.num_parts:
        raise ConfigError(f"volume.part_id={volume.part_id} of {volume.num_parts} parts; expected 0 to num_parts - 1")
    if volume.num_parts > 1 and volume.overwrite:
        raise ConfigError("volume.overwrite=true with volume.num_parts: each part would delete what the others wrote")
    return volume.num_parts * trainer.world_size, volume.part_id * trainer.world_size + trainer.global_rank


def _ledger_folder(volume: DictConfig, sink: VolumeSink | LogitStore) -> Path:
    """Where the notes lie: as asked for, or inside a local output."""
    if volume.ledger is not None:
        return Path(volume.ledger)
    if sink.bookkeeping is None:
        raise ConfigError(f"volume.ledger must be given for {sink.path}: a local folder that all parts of the run see")
    return sink.bookkeeping
