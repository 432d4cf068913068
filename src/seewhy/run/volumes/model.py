"""Load the networks of a volume prediction: from a seewhy checkpoint, an nnU-Net folder, or a config with weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig
from torch import nn

from seewhy.data.transforms.patch_augmentation import PatchAugmentation
from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.network_size import limit_network
from seewhy.io.atomic import file_sha256
from seewhy.io.zarr.layout import positive_triple
from seewhy.models.protocols import SegmentsVolumes
from seewhy.run.build import build, to_plain_data
from seewhy.run.folder import RunFolder
from seewhy.run.loaded.saved_run import load_state, read_checkpoint

__all__ = ["VolumeModel", "describe_model", "find_trained_mirrors", "load_volume_model"]

LOGGER = logging.getLogger(__name__)
CHOICES = (
    "give one of volume.model.nnunet, volume.model.bundle, volume.model.network and a checkpoint (ckpt_path or run)"
)


@dataclass(frozen=True)
class VolumeModel:
    """Networks, and what they were trained for.

    Attributes:
        networks: their logits are averaged.
        name: for messages.
        sha256: of the weights.
        patch: voxels along Z, Y and X; None if unknown.
        normalization: per channel, for `seewhy.volumes.normalization`; None if unknown.
        spacing: millimetres along Z, Y and X in training; None if unknown, NaN along an axis where any size works.
        mirror_axes: axes along which the network may be mirrored; None if unknown, so that the user may choose.
        mode: for `seewhy.volumes.output_format`; None derives it from the number of channels.
        class_order: of regions.
        classes: names of stored labels by value.
        channels: of the input; None if unknown.
        network: config of the network, if it was built from one, for the output's fingerprint.
    """

    networks: tuple[nn.Module, ...]
    name: str
    sha256: str
    patch: tuple[int, int, int] | None = None
    normalization: list[dict[str, Any]] | None = None
    spacing: tuple[float, float, float] | None = None
    mirror_axes: tuple[int, ...] | None = None
    mode: str | None = None
    class_order: tuple[int, ...] | None = None
    classes: Mapping[int, str] | None = None
    channels: int | None = None
    network: Mapping[str, Any] | None = None

    def choose_mirror_axes(self, tta: Any) -> tuple[int, ...]:
        """Axes to mirror along, for the option `volume.inference.tta`.

        Raises:
            ConfigError: axes that the model does not allow, or `true` for a model that states none.
        """
        if tta is None or tta is False:
            return ()
        if tta is not True and not (isinstance(tta, list) and all(axis in (0, 1, 2) for axis in tta)):
            raise ConfigError(
                f"volume.inference.tta={tta!r}; expected true, false or axes of [Z, Y, X] by number, e.g. [0,1,2]"
            )
        if tta is True:
            if self.mirror_axes is None:
                raise ConfigError(
                    "volume.inference.tta=true: this model does not state along which axes it may be mirrored, and "
                    "its training mirrored nothing; give them, e.g. [0,1,2]"
                )
            return self.mirror_axes
        axes = tuple(sorted({int(axis) for axis in tta}))
        allowed = (0, 1, 2) if self.mirror_axes is None else self.mirror_axes
        if not set(axes) <= set(allowed):
            raise ConfigError(
                f"volume.inference.tta={list(axes)}: the model may be mirrored along {list(allowed)} only"
            )
        return axes


def load_volume_model(config: DictConfig) -> VolumeModel:
    """Load the model that the configuration names, with the user's patch and normalization if they are given.

    Raises:
        SeewhyError: no model or several models are named, or the model cannot be loaded.
    """
    options, inference = config.volume.model, config.volume.inference
    given = [f"volume.model.{key}" for key in ("nnunet", "bundle", "network") if options[key] is not None]
    if len(given) > 1 or (given and config.ckpt_path):
        raise ConfigError(f"{' and '.join([*given, 'ckpt_path'][:2])} are both given; {CHOICES}")
    if options.nnunet is not None:
        model = _from_nnunet(options)
    elif options.bundle is not None:
        model = _from_bundle(options, inference)
    elif options.network is not None:
        model = _from_config(options)
    else:
        model = _from_checkpoint(config)
    if inference.patch is not None:
        model = replace(model, patch=positive_triple(inference.patch, "volume.inference.patch"))
    if inference.normalization is not None:
        model = replace(model, normalization=to_plain_data(inference.normalization))
    for key, value in (("patch", model.patch), ("normalization", model.normalization)):
        if value is None:
            raise ConfigError(f"volume.inference.{key} must be given: {model.name} does not store it")
    return model


def _from_nnunet(options: DictConfig) -> VolumeModel:
    from seewhy.interop.nnunet.folder import read_nnunet

    loaded = read_nnunet(
        options.nnunet,
        folds=to_plain_data(options.folds),
        checkpoint=options.checkpoint,
        configuration=options.configuration,
    )
    return VolumeModel(
        networks=loaded.networks,
        name=f"{options.nnunet} ({loaded.configuration}, {', '.join(loaded.folds)})",
        sha256=loaded.sha256,
        patch=loaded.patch,
        normalization=loaded.normalization,
        spacing=loaded.spacing,
        mirror_axes=loaded.mirror_axes,
        mode="regions" if loaded.heads.regions else "binary" if loaded.heads.count == 2 else "multiclass",
        class_order=loaded.heads.class_order,
        classes=loaded.heads.classes,
        channels=len(loaded.channels),
    )


def _from_bundle(options: DictConfig, inference: DictConfig) -> VolumeModel:
    from seewhy.interop.monai_bundle.folder import read_bundle

    loaded = read_bundle(options.bundle)
    if loaded.normalization is None and inference.normalization is None:
        raise ConfigError(f"{loaded.problem}; give volume.inference.normalization, e.g. [{{scheme: zscore}}]")
    if loaded.orientation is not None:
        LOGGER.warning(
            "%s turns images to %s; they are predicted as they are stored, so turn others first",
            options.bundle, loaded.orientation,
        )  # fmt: skip
    heads = len(loaded.classes)
    names = loaded.classes if loaded.regions else loaded.classes[1:]
    return VolumeModel(
        networks=(loaded.network,),
        name=str(options.bundle),
        sha256=loaded.sha256,
        patch=loaded.patch,
        normalization=loaded.normalization,
        spacing=loaded.spacing,
        mode="regions" if loaded.regions and heads > 1 else "multiclass" if heads > 2 else "binary" if heads else None,
        class_order=tuple(range(1, heads + 1)) if loaded.regions and heads > 1 else None,
        classes={0: "background"} | dict(enumerate(names, start=1)) if heads else None,
        channels=loaded.channels,
        network=loaded.definition,
    )


def _from_config(options: DictConfig) -> VolumeModel:
    from seewhy.interop.weights import load_network

    if options.weights is None:
        raise ConfigError("volume.model.weights must be given with volume.model.network")
    network = build(options.network, "volume.model.network")
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"volume.model.network._target_={options.network._target_!r} is not a torch.nn.Module; name a network class"
        )
    load_network(network, options.weights)
    name = f"{type(network).__name__} with {options.weights}"
    return VolumeModel((network,), name, file_sha256(options.weights), network=to_plain_data(options.network))


def _from_checkpoint(config: DictConfig) -> VolumeModel:
    """Load a seewhy checkpoint; its hyperparameters count, whatever the experiment's files contain now."""
    if config.ckpt_path is None and not RunFolder(config.run).checkpoints.is_dir():
        raise ConfigError(f"no model: {CHOICES}")
    path = Path(config.ckpt_path) if config.ckpt_path else RunFolder(config.run).checkpoint(final=config.use_final)
    kept = read_checkpoint(path).get("hyper_parameters")
    target = str(config.model.get("_target_")) if config.model is not None else "null"
    kind = get_object(target) if "." in target else None
    refusal = CheckpointError(
        f"{path} is not a checkpoint of a model that predicts volumes (model._target_={target}); "
        "train one with experiment=volume"
    )
    if kind is None or not isinstance(kept, Mapping) or "patch" not in kept:
        raise refusal
    try:
        with limit_network(path, where=f"{path}: its hyper_parameters"):
            model = kind(**kept)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{path} belongs to another model than {target} ({error})") from error
    if not isinstance(model, nn.Module) or not isinstance(model, SegmentsVolumes):
        raise refusal
    load_state(model, path)
    described = describe_model(model, kept, path)
    return described if described.mirror_axes else replace(described, mirror_axes=find_trained_mirrors(config))


def find_trained_mirrors(config: DictConfig) -> tuple[int, ...] | None:
    """Axes along which the training's patches were mirrored at random, so that the network knows both sides.

    Args:
        config: of the run, with its `data`.

    Returns:
        All axes, or None if patches were not mirrored or the run does not state it.
    """
    augmentation = None if config.get("data") is None else config.data.get("augmentation")
    if augmentation is None:
        return None
    flip = augmentation.get("flip", PatchAugmentation.flip)
    return (0, 1, 2) if isinstance(flip, (int, float)) and flip > 0 else None


def describe_model(model: nn.Module, kept: Mapping[str, Any], path: Path) -> VolumeModel:
    """Describe a loaded model of this package for the engine.

    Args:
        model: segments volumes.
        kept: hyperparameters of its checkpoint.
        path: the checkpoint.
    """
    assert isinstance(model, SegmentsVolumes)
    heads = dict(model.heads)
    regions, classes = kept.get("regions"), list(kept["classes"])
    names = {0: classes[0]} | {number: name for number, name in enumerate(classes) if number}
    if regions is not None:
        names = {0: classes[0]} | {int(labels[-1]): name for name, labels in regions.items()}
    spacing = kept.get("spacing")
    return VolumeModel(
        networks=(model,),
        name=str(path),
        sha256=file_sha256(path),
        patch=positive_triple(kept["patch"], "patch"),
        normalization=None if kept.get("normalization") is None else list(kept["normalization"]),
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        mirror_axes=tuple(kept.get("mirror_axes") or ()) or None,
        mode="binary" if heads["mode"] == "multiclass" and heads["channels"] == 2 else heads["mode"],
        class_order=tuple(heads["class_order"]) if "class_order" in heads else None,
        classes=names,
        channels=kept.get("in_channels"),
    )
