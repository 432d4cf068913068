"""The networks of a volume prediction, wherever they come from, and what they were trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn

from seewhy.errors import CheckpointError, ConfigError
from seewhy.interop.network_weights import load_network
from seewhy.interop.nnunet.folder import read_nnunet
from seewhy.io.atomic import file_sha256
from seewhy.run.build import build
from seewhy.run.folder import RunFolder
from seewhy.run.run_loader import load_state, read_checkpoint

__all__ = ["VolumeModel", "find_model"]

BOTH = "give one of volume.nnunet, volume.network and a checkpoint (ckpt_path or run)"


@dataclass(frozen=True)
class VolumeModel:
    """Networks and what a prediction has to know about them.

    Attributes:
        networks: their logits are averaged.
        name: for people.
        sha256: of the weights.
        patch: voxels along Z, Y and X; None where only the user can say.
        normalization: per channel, for `seewhy.volumes.normalization`; None likewise.
        spacing: millimetres along Z, Y and X that it was trained at; None where it is not known, NaN along
            an axis that does not matter.
        mirror_axes: along which it may be mirrored; None where it does not say, so that the user may choose.
        mode: for `seewhy.volumes.output_format`; None where it follows from the number of channels.
        class_order: of regions.
        classes: names of stored labels by value.
        channels: of the input; None where it is not known.
        network: the network by config, if it came from there, for the output's notes.
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

    def mirrored(self, tta: Any) -> tuple[int, ...]:
        """Axes to mirror along, from the option `tta`.

        Raises:
            ConfigError: axes that the model does not allow, or none stated and none given.
        """
        if tta is None or tta is False:
            return ()
        if tta is not True and not (isinstance(tta, list) and all(axis in (0, 1, 2) for axis in tta)):
            raise ConfigError(f"volume.tta={tta!r}; expected true, false or axes of [Z, Y, X] by number, e.g. [0,1,2]")
        if tta is True:
            if self.mirror_axes is None:
                raise ConfigError("volume.tta=true: this model does not say which axes allow it; give them: [0,1,2]")
            return self.mirror_axes
        axes = tuple(sorted({int(axis) for axis in tta}))
        allowed = (0, 1, 2) if self.mirror_axes is None else self.mirror_axes
        if not set(axes) <= set(allowed):
            raise ConfigError(f"volume.tta={list(axes)}: the model may be mirrored along {list(allowed)} only")
        return axes


def find_model(config: DictConfig) -> VolumeModel:
    """The model that the configuration names, with the patch and normalization that the user sets over it.

    Raises:
        SeewhyError: none or several are named, or one cannot be loaded.
    """
    volume = config.volume
    named = [key for key in ("nnunet", "network") if volume[key] is not None]
    if len(named) > 1 or (named and config.ckpt_path):
        raise ConfigError(f"{' and '.join([*named, 'ckpt_path'][:2])} are both given; {BOTH}")
    if volume.nnunet is not None:
        model = _from_nnunet(volume)
    elif volume.network is not None:
        model = _from_config(volume)
    else:
        model = _from_checkpoint(config)
    if volume.patch is not None:
        model = replace(model, patch=_triple(volume.patch, "volume.patch"))
    if volume.normalization is not None:
        model = replace(model, normalization=_plain(volume.normalization))
    for key in ("patch", "normalization"):
        if getattr(model, key) is None:
            raise ConfigError(f"volume.{key} must be given: {model.name} does not say what it was trained with")
    return model


def _from_nnunet(volume: DictConfig) -> VolumeModel:
    found = read_nnunet(
        volume.nnunet,
        folds=None if volume.folds is None else _plain(volume.folds),
        checkpoint=volume.checkpoint,
        configuration=volume.configuration,
    )
    mode = "regions" if found.heads.regions else "binary" if found.heads.count == 2 else "multiclass"
    return VolumeModel(
        networks=found.networks,
        name=f"{volume.nnunet} ({found.configuration}, {', '.join(found.folds)})",
        sha256=found.sha256,
        patch=found.patch,
        normalization=found.normalization,
        spacing=found.spacing,
        mirror_axes=found.mirror_axes,
        mode=mode,
        class_order=found.heads.class_order,
        classes=found.heads.classes,
        channels=len(found.channels),
    )


def _from_config(volume: DictConfig) -> VolumeModel:
    if volume.weights is None:
        raise ConfigError("volume.weights must be given: a network without weights predicts nothing")
    network = build(volume.network, "volume.network")
    if not isinstance(network, nn.Module):
        raise ConfigError(f"volume.network._target_={volume.network._target_!r} gives no torch.nn.Module")
    load_network(network, volume.weights)
    name = f"{type(network).__name__} with {volume.weights}"
    return VolumeModel((network,), name, file_sha256(volume.weights), network=_plain(volume.network))


def _from_checkpoint(config: DictConfig) -> VolumeModel:
    """A checkpoint of ours; what it was trained with is in its hyperparameters, whatever the experiment says now."""
    if config.ckpt_path is None and not RunFolder(config.run).checkpoints.is_dir():
        raise ConfigError(f"no model: {BOTH}")
    path = Path(config.ckpt_path) if config.ckpt_path else RunFolder(config.run).checkpoint(final=config.use_final)
    kept = read_checkpoint(path).get("hyper_parameters")
    target = str(config.model.get("_target_")) if config.model is not None else "null"
    kind = get_object(target) if "." in target else None
    if kind is None or not hasattr(kind, "heads") or not isinstance(kept, Mapping) or "patch" not in kept:
        raise CheckpointError(
            f"{path} is no checkpoint of a model that predicts volumes (model._target_={target}); "
            "train one with experiment=volume"
        )
    try:
        model = kind(**kept)
    except TypeError as error:
        raise CheckpointError(f"{path} is of another model than {target} ({error})") from error
    load_state(model, path)
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
        patch=_triple(kept["patch"], "patch"),
        normalization=None if kept.get("normalization") is None else list(kept["normalization"]),
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        mirror_axes=tuple(kept.get("mirror_axes") or ()) or None,
        mode="binary" if heads["mode"] == "multiclass" and heads["channels"] == 2 else heads["mode"],
        class_order=tuple(heads["class_order"]) if "class_order" in heads else None,
        classes=names,
        channels=kept.get("in_channels"),
    )


def _triple(values: Sequence[int], name: str) -> tuple[int, int, int]:
    numbers = [int(value) for value in values]
    if len(numbers) != 3 or min(numbers) < 1:
        raise ConfigError(f"{name}={numbers}; expected three numbers of voxels for Z, Y and X")
    return numbers[0], numbers[1], numbers[2]


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
