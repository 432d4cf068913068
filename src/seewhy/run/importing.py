"""Import checkpoints of reference systems as run folders that `predict` and `explain` take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from hydra.utils import get_class
from lightning.pytorch import LightningModule
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ValidationError
from torch import Tensor

from seewhy.batch import MODALITIES, STACK_SLICES
from seewhy.data.slices.datamodule import SliceDataModule
from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.reference.checkpoints import read_parameters, read_reference
from seewhy.interop.reference.cyclegan import CycleGANCheckpoint, read_cyclegan
from seewhy.interop.tensors import check_finite_weights
from seewhy.io.atomic import atomic_path, file_sha256, write_json
from seewhy.run.build import build_datamodule, build_model
from seewhy.run.checks import check_config
from seewhy.run.folder import RunFolder
from seewhy.run.model_card import write_model_card

__all__ = ["PARAMETERS", "import_checkpoint"]

FIRST_SLICE = 10
"""First slice that the MRI reference cuts from a scan; the last one follows from the number of channels."""
PARAMETERS = {
    "dropout_rate": "model.dropout",
    "learning_rate": "model.optimizer.lr",
    "weight_decay": "model.optimizer.weight_decay",
    "batch_size": "data.batch_size",
    "random_seed": "seed",
}
"""Options of the MRI reference's training script → options of seewhy."""
PERCENTILES = [1.0, 99.0]
"""Percentiles of the tissue that became 0 and 1 in the preparation of the published CycleGAN."""
WEIGHTS = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "ssim": 1.0, "gradient": 0.0, "nce": 0.0}
"""Weights of the losses of the published CycleGAN."""


@dataclass(frozen=True)
class _Import:
    """A file that was read.

    Attributes:
        configure: sets options of the run's configuration to what the file holds and what its training did.
        state: parameters, and the buffers that the file has.
        record: entries of `imported.json` in addition to the file's name and hash.
        summary: network and sizes in words.
        fresh: beginnings of names of parameters that the file need not hold; they keep their initial values.
        measure: configuration → further buffers of the model and entries of the record, which need the data set.
    """

    configure: Callable[[DictConfig], None]
    state: Mapping[str, Tensor]
    record: dict[str, Any]
    summary: str
    fresh: tuple[str, ...] = ()
    measure: Callable[[DictConfig], tuple[dict[str, Tensor], dict[str, Any]]] = lambda config: ({}, {})


def import_checkpoint(
    kind: str,
    file: Path,
    folder: Path,
    config: DictConfig,
    *,
    root: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> str:
    """Import a checkpoint of a reference system as a run folder.

    The folder gets `config.yaml`, `checkpoints/{best,last}.ckpt` and `imported.json`. Options by system, for what the
    file does not say:

    - `afa`: `pooling`.
    - `amd`: `inputs` (names of the images in the order of the backbones), `classes` (names of the grades in order) and
      `normalize` (`oct` or `bio`).
    - `mri`: `classes` (names of class 0 and class 1) and `parameters` (the reference's `parameters.json` or None).
    - `cyclegan`: `direction` of a single unnamed generator. Its networks take and give values in [0, 1]; batches of
      seewhy stay in [-1, 1]. The intensities of the scanners are not in the file: they are the medians over the
      subjects below `root` if it is given; otherwise `predict` needs `callbacks.predictions.units=source`.

    Args:
        kind: `afa`, `amd`, `mri` or `cyclegan`.
        file: the reference's checkpoint.
        folder: run folder to create.
        config: a training configuration with the data set and the model of this system; changed to fit the file.
        root: folder of the data set; may be given later with `data.root=…`.
        overwrite: replace an existing run.
        options: see above.

    Returns:
        A summary in one line.

    Raises:
        CheckpointError: not such a checkpoint, unsafe to load, or of other classes or sizes.
        ConfigError: the folder holds a run.
        DataError: problems of the data below `root`.
    """
    imported = IMPORTERS[kind](file, **options)
    run = RunFolder(folder)
    if not overwrite:
        run.refuse_overwrite("choose another folder, or add --overwrite")
    with open_dict(config):
        config.name = f"imported/{config.name}"
        config.paths.output_dir = str(run.path)
        config.data.root = root if root is not None else "data"
        imported.configure(config)
    check_config(config, "data", "model")
    buffers, facts = ({}, {}) if root is None else imported.measure(config)
    run.keep_records(move=True)  # of a run that was here before
    model = _write_checkpoints(run, config, file, {**imported.state, **buffers}, imported.fresh)
    write_json(run.path / "imported.json", {"file": file.name, "sha256": file_sha256(file), **imported.record, **facts})
    run.write_config(config, imported=file.name)
    write_model_card(run, model)
    return f"{imported.summary} → {run.path} (predict.py run={run.path} data.root=…)"


def _write_checkpoints(
    run: RunFolder, config: DictConfig, file: Path, state: Mapping[str, Tensor], fresh: tuple[str, ...]
) -> LightningModule:
    """Load weights into the configured model, save it as the best and the last checkpoint, and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config)
    # Buffers that only seewhy's model has (temperature, weights of classes) keep their initial values; the readers
    # have checked that no weight is missing.
    buffers = {name for name, _ in model.named_buffers()}
    initial = {name: value for name, value in model.state_dict().items() if name in buffers or name.startswith(fresh)}
    check_finite_weights(model, state, file)
    try:
        model.load_state_dict({**initial, **state})
    except RuntimeError as error:
        raise CheckpointError(f"{file} does not fit {type(model).__name__}: {error}") from error
    checkpoint: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "hparams_name": "kwargs",
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
    }
    for name in ("best", "last"):
        with atomic_path(run.checkpoints / f"{name}.ckpt") as temporary:
            torch.save(checkpoint, temporary)
    return model


def _check_classes(file: Path, classes: Sequence[str], expected: int) -> None:
    if len(classes) != expected:
        raise CheckpointError(
            f"{file} has {expected} classes, but {len(classes)} names are given ({', '.join(classes)}); "
            "name all of them with --classes"
        )
    if not all(classes) or len(set(classes)) < len(classes):
        raise CheckpointError(f"--classes {' '.join(map(repr, classes))}: expected different names that are not empty")


def _import_afa(file: Path, *, pooling: str) -> _Import:
    imported = read_reference("afa", file)
    sizes = imported.sizes

    def configure(config: DictConfig) -> None:
        data = get_class(config.data["_target_"])
        if not issubclass(data, SliceDataModule):
            raise ConfigError(
                f"--experiment={config.name.removeprefix('imported/')} has data of {data.__name__}; AFA "
                "takes slices: choose brats or lasc"
            )
        config.data.channels, config.data.normalize = sizes["in_channels"], "imagenet"
        config.data.num_classes = config.model.num_classes = sizes["num_classes"]
        config.model.encoder.name = imported.network
        config.model.encoder.attention_blocks = sizes["attention_blocks"]
        config.model.pooling = {"name": pooling}
        config.model.decoder.dim = sizes["decoder_dim"]

    summary = f"{imported.network}, {sizes['num_classes']} classes"
    return _Import(configure, imported.state_dict, {"network": imported.network}, summary)


def _import_amd(file: Path, *, inputs: Sequence[str], classes: Sequence[str], normalize: str) -> _Import:
    imported = read_reference("amd", file, inputs=inputs)
    outputs = imported.sizes["outputs"]
    _check_classes(file, classes, outputs)

    def configure(config: DictConfig) -> None:
        config.data.inputs, config.data.normalize = list(inputs), normalize
        # The reference's networks take any size; images are not resized.
        config.data.image_size = None
        model = config.model
        model.inputs, model.classes = list(inputs), list(classes)
        model.backbone = {"name": imported.network, "library": "torchvision"}
        model.shared, model.stem, model.pretrained = False, "conv1x1", False
        model.head.hidden = imported.sizes["hidden"]
        model.loss = {"name": "cross_entropy"}

    settings = imported.record.get("NetModule", imported.record)
    name = settings.get("model_name") if isinstance(settings, Mapping) else None
    remark = f" (its configuration calls it {name})" if name and str(name) not in imported.network else ""
    record = {"network": imported.network, "epoch": imported.epoch, "their_config": imported.record}
    summary = f"{imported.network}{remark}, {len(inputs)} inputs, {outputs} classes"
    return _Import(configure, imported.state_dict, record, summary)


def _import_mri(file: Path, *, classes: Sequence[str], parameters: Path | None = None) -> _Import:
    imported = read_reference("mri", file)
    depth, outputs = imported.sizes["depth"], imported.sizes["outputs"]
    settings = {} if parameters is None else read_parameters(parameters)
    _check_classes(file, classes, max(outputs, 2))

    def configure(config: DictConfig) -> None:
        data, model = config.data, config.model
        data.axis, data.slices = 1, [FIRST_SLICE, FIRST_SLICE + depth]
        data.size, data.pad, data.normalize = 112, 8, "zscore"
        model.view, model.classes = "channels", list(classes)
        model.backbone = {"name": imported.network, "library": "torchvision"}
        model.pretrained = False
        model.loss = {"name": "binary" if outputs == 1 else "cross_entropy"}
        for theirs, ours in PARAMETERS.items():
            value = settings.get(theirs)
            if isinstance(value, int | float) and not isinstance(value, bool):
                try:
                    OmegaConf.update(config, ours, value)
                except ValidationError as error:
                    raise CheckpointError(f"{parameters}: {theirs}={value!r} does not fit {ours}") from error

    record = {"network": imported.network, "epoch": imported.epoch, "their_metrics": imported.record}
    logits = "one logit" if outputs == 1 else f"{outputs} classes"
    summary = f"{imported.network}, {depth} slices, {logits}"
    return _Import(configure, imported.state_dict, {**record, "their_parameters": settings}, summary)


def _import_cyclegan(file: Path, *, direction: Literal["A2B", "B2A"]) -> _Import:
    imported = read_cyclegan(file, direction=direction)
    options = imported.generator_options
    sizes = (options["slices"], options["modalities"])
    if sizes != (STACK_SLICES, len(MODALITIES)):
        raise CheckpointError(
            f"{file} translates {sizes[0]} slices of {sizes[1]} modalities; the data set of two domains has stacks of "
            f"{STACK_SLICES} slices of {len(MODALITIES)} ({', '.join(MODALITIES)})"
        )
    # The model has a discriminator of each domain that a generator makes.
    judged = {name[-1] for name in imported.generators}
    state = {f"generators.{name.lower()}.{key}": tensor for name, net in imported.generators.items()
             for key, tensor in net.items()}  # fmt: skip
    state |= {f"discriminators.{name.lower()}.{key}": tensor for name, net in imported.discriminators.items()
              if name in judged for key, tensor in net.items()}  # fmt: skip
    record = {
        "network": "SA-CycleGAN-2.5D" if imported.attention else "baseline of SA-CycleGAN-2.5D",
        "directions": sorted(imported.generators),
        "discriminators": sorted(imported.discriminators),
        "epoch": imported.epoch,
        "left_out": list(imported.left_out),
        "intensities_of_subjects": {},
        "their_record": imported.record,
    }
    directions = " and ".join(sorted(imported.generators))
    return _Import(
        configure=lambda config: _configure_cyclegan(config, imported),
        state=state,
        record=record,
        summary=f"{record['network']}, width {options['width']}, {options['blocks']} blocks, {directions}",
        fresh=("discriminators.", "samplers."),
        measure=_measure_intensities,
    )


def _configure_cyclegan(config: DictConfig, imported: CycleGANCheckpoint) -> None:
    generator = {key: value for key, value in imported.generator_options.items() if key not in ("slices", "modalities")}
    discriminator = {key: value for key, value in imported.discriminator_options.items() if key != "channels"}
    both = len(imported.generators) > 1
    config.data.percentiles, config.data.slices = PERCENTILES, STACK_SLICES
    model = config.model
    model.directions = "both" if both else next(iter(imported.generators)).lower()
    model.generator = {"name": "sa" if imported.attention else "plain", **generator, "value_range": "unit"}
    model.discriminator = {"attention": imported.attention, **discriminator, "value_range": "unit"}
    model.losses = {"adversarial": "lsgan", "weights": {**WEIGHTS, **({} if both else {"cycle": 0.0, "ssim": 0.0})}}
    # The published training never saw neighbours of fakes: its cycles repeated one slice.
    model.cycle, model.legacy_layout = "repeat", both and imported.legacy_layout


def _measure_intensities(config: DictConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Measure the median intensities of each domain, as buffers of the model, and count the subjects."""
    datamodule: Any = build_datamodule(config)
    buffers, counts = {}, {}
    for domain in ("a", "b"):
        subjects = [subject for subject in datamodule.subjects if subject.domain == domain]
        values = [datamodule.reader.measure_intensity(subject) for subject in subjects]
        counts[domain] = len(values)
        if values:
            median = np.median(np.stack(values), axis=0)
            buffers[f"intensity_{domain}"] = torch.as_tensor(median, dtype=torch.float32)
    return buffers, {"intensities_of_subjects": counts}


IMPORTERS: dict[str, Callable[..., _Import]] = {
    "afa": _import_afa,
    "amd": _import_amd,
    "mri": _import_mri,
    "cyclegan": _import_cyclegan,
}
