"""Other people's checkpoints as Lightning checkpoints and run folders of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from seewhy.errors import CheckpointError
from seewhy.interop.reference.afa import AFACheckpoint, read_afa
from seewhy.interop.reference.amd import read_amd
from seewhy.interop.reference.mri import FIRST_SLICE, read_mri, read_parameters
from seewhy.run.importing.run_folder import begin_run, free_folder, next_command, write_run

__all__ = ["import_afa", "import_amd", "import_mri"]


def import_afa(file: Path, folder: Path, config: DictConfig, *, pooling: str, root: str | None, overwrite: bool) -> str:
    """Bring a reference checkpoint into a run folder that `predict` and `explain` take.

    Args:
        file: the reference's `.pth`.
        folder: run folder to make: `config.yaml`, `checkpoints/{best,last}.ckpt`, `imported.json`.
        config: a training configuration with the published method's model; sized here as the file says.
        pooling: the file does not say which one it was trained with.
        root: the data set's folder; may be given later with `data.root=…`.
        overwrite: replace a run that is there.

    Returns:
        What was imported, in one line.

    Raises:
        CheckpointError: not such a checkpoint, unsafe to load, or the folder holds a run.
    """
    imported = read_afa(file)
    run = free_folder(folder, overwrite)
    begin_run(config, run, root)
    _fit_afa(config, imported, pooling=pooling)
    write_run(run, config, file, imported.state_dict, {"network": imported.variant})
    return f"{imported.variant}, {imported.num_classes} classes → {next_command(run)}"


def import_amd(
    file: Path,
    folder: Path,
    config: DictConfig,
    *,
    inputs: Sequence[str],
    classes: Sequence[str],
    normalize: str,
    root: str | None,
    overwrite: bool,
) -> str:
    """Bring a checkpoint of the AMD grading reference into a run folder.

    Args:
        file: the reference's `.ckpt`.
        folder: run folder to make, see `import_afa`.
        config: a training configuration with the AMD data set and model.
        inputs: names of the images, in the order of the reference's backbones.
        classes: names of the grades, in order.
        normalize: what was done to images: `oct` or `bio`; the file does not say.
        root: the data set's folder; may be given later with `data.root=…`.
        overwrite: replace a run that is there.

    Returns:
        What was imported, in one line.

    Raises:
        CheckpointError: not such a checkpoint, unsafe to load, other classes, or the folder holds a run.
    """
    imported = read_amd(file, inputs=inputs)
    if len(classes) != imported.outputs:
        raise CheckpointError(
            f"{file} has {imported.outputs} classes, but {len(classes)} names are given ({', '.join(classes)}); "
            "name all of them with --classes"
        )
    run = free_folder(folder, overwrite)
    begin_run(config, run, root)
    with open_dict(config):
        config.data.inputs, config.data.normalize = list(inputs), normalize
        # The reference's networks take any size; images come as they are.
        config.data.image_size = None
        model = config.model
        model.inputs, model.classes = list(inputs), list(classes)
        model.backbone = {"name": imported.name, "library": "torchvision"}
        model.shared, model.stem, model.pretrained = False, "conv1x1", False
        model.head.hidden = imported.hidden
        model.loss = {"name": "cross_entropy"}
    record = {"network": imported.name, "epoch": imported.epoch, "their_config": imported.config}
    write_run(run, config, file, imported.state_dict, record)
    called = _called(imported.config)
    told = f" (its configuration calls it {called})" if called and called not in imported.name else ""
    return f"{imported.name}{told}, {len(inputs)} inputs, {imported.outputs} classes → {next_command(run)}"


def import_mri(
    file: Path,
    folder: Path,
    config: DictConfig,
    *,
    parameters: Path | None,
    classes: Sequence[str],
    root: str | None,
    overwrite: bool,
) -> str:
    """Bring a checkpoint of the MRI saliency reference into a run folder.

    Args:
        file: the reference's `best_model.pth`.
        folder: run folder to make, see `import_afa`.
        config: a training configuration with the MRI data set and model.
        parameters: the reference's `parameters.json`, from which training could go on as it began.
        classes: names of class 0 and class 1.
        root: the data set's folder; may be given later with `data.root=…`.
        overwrite: replace a run that is there.

    Returns:
        What was imported, in one line.

    Raises:
        CheckpointError: not such a checkpoint, unsafe to load, other classes, or the folder holds a run.
    """
    imported = read_mri(file)
    settings = {} if parameters is None else read_parameters(parameters)
    if max(imported.outputs, 2) != len(classes):
        raise CheckpointError(
            f"{file} tells {max(imported.outputs, 2)} classes apart, but {len(classes)} names are given "
            f"({', '.join(classes)}); name all of them with --classes"
        )
    run = free_folder(folder, overwrite)
    begin_run(config, run, root)
    with open_dict(config):
        data, model = config.data, config.model
        data.axis, data.slices = 1, [FIRST_SLICE, FIRST_SLICE + imported.depth]
        data.size, data.pad, data.normalize = 112, 8, "zscore"
        model.view, model.classes = "channels", list(classes)
        model.backbone = {"name": imported.name, "library": "torchvision"}
        model.pretrained = False
        model.loss = {"name": "binary" if imported.outputs == 1 else "cross_entropy"}
        _apply_parameters(config, settings)
    record = {"network": imported.name, "epoch": imported.epoch, "their_metrics": imported.metrics}
    write_run(run, config, file, imported.state_dict, {**record, "their_parameters": settings})
    logits = "one logit" if imported.outputs == 1 else f"{imported.outputs} classes"
    return f"{imported.name}, {imported.depth} slices, {logits} → {next_command(run)}"


def _fit_afa(config: DictConfig, imported: AFACheckpoint, *, pooling: str) -> None:
    """Set what the file says and what its training did to images."""
    with open_dict(config):
        config.data.channels, config.data.normalize = imported.in_channels, "imagenet"
        config.data.num_classes = config.model.num_classes = imported.num_classes
        config.model.encoder.name = imported.variant
        config.model.encoder.attention_blocks = imported.attention_blocks
        config.model.pooling = {"name": pooling}
        config.model.decoder.dim = imported.decoder_dim


PARAMETERS = {
    "dropout_rate": "model.dropout",
    "learning_rate": "model.optimizer.lr",
    "weight_decay": "model.optimizer.weight_decay",
    "batch_size": "data.batch_size",
    "random_seed": "seed",
}
"""The MRI reference's parameters that have a place in our configuration."""


def _apply_parameters(config: DictConfig, settings: Mapping[str, Any]) -> None:
    for theirs, ours in PARAMETERS.items():
        value = settings.get(theirs)
        if isinstance(value, int | float) and not isinstance(value, bool):
            OmegaConf.update(config, ours, value)


def _called(config: Mapping[str, Any]) -> str | None:
    """What the AMD reference's configuration calls its network, which may be another than it is."""
    settings = config.get("NetModule", config)
    name = settings.get("model_name") if isinstance(settings, Mapping) else None
    return str(name) if name else None
