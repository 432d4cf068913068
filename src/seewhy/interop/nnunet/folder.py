"""Load model folders of nnU-Net v2 (Isensee 2021), local or from the Hugging Face hub, without running their code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from seewhy.errors import CheckpointError, ConfigError, nearest
from seewhy.interop.network_size import limit_network
from seewhy.interop.nnunet.network import PlaneByPlane, Transposed, build_network, old_architecture
from seewhy.interop.nnunet.plans import PLANS, NNUNetHeads, NNUNetPlans, read_plans
from seewhy.interop.tensors import extract_state_dict, read_file
from seewhy.interop.weights import fill_network
from seewhy.io.atomic import file_sha256

__all__ = ["SCHEME", "NNUNetModel", "fetch_folder", "read_nnunet"]

SCHEME = "hf://"
PATTERNS = ("*.json", "*.pth", "*.safetensors")
"""Files of a model folder that are downloaded."""


def fetch_folder(address: str) -> Path:
    """Download a model folder, or return the cached one without a network.

    Args:
        address: `hf://org/model`, optionally with `@revision` and `/sub/folder`.

    Returns:
        The folder in the hub's cache.

    Raises:
        CheckpointError: invalid address, no access, neither a network nor a cached folder, or a missing package.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(f"{address}: {error}; pip install 'seewhy[nnunet]'") from error
    path, _, pinned = address.removeprefix(SCHEME).partition("@")
    revision, _, after = pinned.partition("/")
    parts = [part for part in (*path.split("/"), *after.split("/")) if part]
    if len(parts) < 2 or ".." in parts:
        raise CheckpointError(
            f"{address} is not the address of a model; expected hf://org/model, or hf://org/model@revision"
        )
    repository, inside = "/".join(parts[:2]), parts[2:]
    patterns = ["/".join([*inside, pattern]) for pattern in PATTERNS]
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
    except Exception as error:  # errors of the hub, of its HTTP library, and of the system
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{address} cannot be downloaded and is not cached ({type(error).__name__}: {reason}); "
            "download the folder elsewhere and give its path"
        ) from error
    return Path(folder).joinpath(*inside)


CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
"""Default checkpoints, in this order."""
PLANES = 1
"""Planes of a patch of a 2D network; with more, overlapping patches would predict each plane again."""


@dataclass(frozen=True)
class NNUNetModel:
    """A loaded model folder; all axes are Z, Y and X.

    Attributes:
        networks: one per fold, from [B, C, z, y, x] to logits [B, K, z, y, x].
        patch: voxels of a patch.
        spacing: in millimetres; NaN across the planes of a 2D network, which accepts any distance.
        normalization: per channel, for `seewhy.volumes.normalization`.
        mirror_axes: axes for test-time mirroring.
        heads: meaning of the output channels.
        channels: names of the input channels.
        transpose: axes in the order in which the network sees them.
        configuration: its name in the plans.
        folds: names of the loaded folders.
        trainer: name of the trainer class.
        sha256: of all checkpoints and plans together.
    """

    networks: tuple[nn.Module, ...]
    patch: tuple[int, int, int]
    spacing: tuple[float, float, float]
    normalization: list[dict[str, Any]]
    mirror_axes: tuple[int, ...]
    heads: NNUNetHeads
    channels: tuple[str, ...]
    transpose: tuple[int, int, int]
    configuration: str
    folds: tuple[str, ...]
    trainer: str
    sha256: str


def read_nnunet(
    folder: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str | None = None,
    configuration: str | None = None,
) -> NNUNetModel:
    """Load a trained model: `plans.json`, `dataset.json` and `fold_*/checkpoint_*.pth`.

    Checkpoints are read with `weights_only=True`; classes named in plans are looked up in a fixed list.

    Args:
        folder: a model folder (`…/nnUNetTrainer__nnUNetPlans__3d_fullres`), a folder that contains a single
            model folder, a folder with the checkpoint next to the plans, or `hf://org/model`.
        folds: e.g. [0, 1] or ["all"]; None takes all numbered folds that are trained, otherwise `all`.
        checkpoint: name of the file; None takes checkpoint_final.pth, otherwise checkpoint_best.pth.
        configuration: configuration of the plans, for checkpoints that do not store it.

    Raises:
        CheckpointError: something is missing, unsafe to load, unsupported, or inconsistent.
        ConfigError: no such fold, checkpoint or configuration.
    """
    root = _model_folder(fetch_folder(str(folder)) if str(folder).startswith(SCHEME) else Path(folder))
    plans = read_plans(root)
    files = _checkpoints(root, folds, checkpoint)
    contents = [read_file(file) for file in files]
    facts = contents[0] if isinstance(contents[0], Mapping) else {}
    name = configuration or _configuration_of(facts)
    settings = plans.configuration(name)
    heads, channels = plans.heads(), plans.channels
    architecture = settings.get("architecture") or old_architecture(settings, where=str(root))
    networks = []
    for file, content in zip(files, contents, strict=True):
        with limit_network(file, where=f"{root}: plans.json"):
            network = build_network(architecture, channels=len(channels), heads=heads.count, where=str(root))
        weights = content.get("network_weights", content) if isinstance(content, Mapping) else content
        fill_network(network, extract_state_dict(weights, file), where=_origin(file, facts))
        networks.append(_to_zyx(network, plans, settings))
    flat = len(settings["patch_size"]) == 2
    return NNUNetModel(
        networks=tuple(networks),
        patch=_voxels(plans, settings),
        spacing=plans.spacing(settings),
        normalization=plans.normalization(settings),
        mirror_axes=_mirrors(facts.get("inference_allowed_mirroring_axes"), plans, flat, where=str(files[0])),
        heads=heads,
        channels=channels,
        transpose=plans.transpose,
        configuration=str(name or "the only one"),
        folds=tuple(file.parent.name for file in files),
        trainer=str(facts.get("trainer_name", "unknown")),
        sha256=_digest([*files, *(root / n for n in (*PLANS, "dataset.json") if (root / n).is_file())]),
    )


def _model_folder(folder: Path) -> Path:
    """Find the folder with the plans: this one, or the only one inside."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give an nnU-Net model folder with plans.json and fold_0")
    if any((folder / name).is_file() for name in PLANS):
        return folder
    below = sorted({file.parent for name in PLANS for file in folder.glob(f"*/{name}")})
    below += sorted({file.parent for name in PLANS for file in folder.glob(f"*/*/{name}")})
    if len(below) == 1:
        return below[0]
    names = ", ".join(str(path.relative_to(folder)) for path in below[:5])
    candidates = f"several subfolders have one: {names}" if below else "nor has a subfolder"
    raise CheckpointError(f"{folder} has no plans.json ({candidates}); give the folder with plans.json and fold_0")


def _checkpoints(root: Path, folds: Sequence[int | str] | None, name: str | None) -> list[Path]:
    """Checkpoint of each fold."""
    trained = {path.name: path for path in sorted(root.glob("fold_*")) if path.is_dir()}
    if not trained:  # like some folders on the Hugging Face hub
        return [_checkpoint(root, name)]
    if folds is None:
        numbered = [path for key, path in trained.items() if key != "fold_all" and any(path.glob("checkpoint_*"))]
        chosen = numbered or list(trained.values())
    else:
        wanted = [str(fold) if str(fold).startswith("fold_") else f"fold_{fold}" for fold in folds]
        missing = [fold for fold in wanted if fold not in trained]
        if missing or not wanted:
            raise ConfigError(
                f"{root} has no {', '.join(missing) or 'folds for an empty list'}; {nearest('fold_0', trained)}"
            )
        chosen = [trained[fold] for fold in wanted]
    return [_checkpoint(path, name) for path in chosen]


def _checkpoint(folder: Path, name: str | None) -> Path:
    for candidate in CHECKPOINTS if name is None else (name,):
        if (folder / candidate).is_file():
            return folder / candidate
    files = sorted(file.name for file in folder.iterdir() if file.suffix in (".pth", ".safetensors"))
    if name is None and len(files) == 1:
        return folder / files[0]
    raise ConfigError(f"{folder} has no {name or CHECKPOINTS[0]}; {nearest(name or CHECKPOINTS[0], files)}")


def _configuration_of(facts: Mapping[str, Any]) -> str | None:
    arguments = facts.get("init_args")
    name = arguments.get("configuration") if isinstance(arguments, Mapping) else None
    return name if isinstance(name, str) else None


def _origin(file: Path, facts: Mapping[str, Any]) -> str:
    """A checkpoint and its trainer, which may have built another network than the plans describe."""
    trainer = facts.get("trainer_name")
    return f"{file} (trained by {trainer})" if trainer else str(file)


def _to_zyx(network: nn.Module, plans: NNUNetPlans, settings: Mapping[str, Any]) -> nn.Module:
    if len(settings["patch_size"]) == 2:
        network = PlaneByPlane(network)
    return network if plans.transpose == (0, 1, 2) else Transposed(network, order=plans.transpose)


def _voxels(plans: NNUNetPlans, settings: Mapping[str, Any]) -> tuple[int, int, int]:
    patch = [int(size) for size in settings["patch_size"]]
    return plans.untransposed([PLANES, *patch] if len(patch) == 2 else patch)


def _mirrors(axes: Any, plans: NNUNetPlans, flat: bool, *, where: str) -> tuple[int, ...]:
    """Convert axes of the network to axes of Z, Y and X; a 2D network counts axes within a plane."""
    axes = () if axes is None else axes
    valid = range(2 if flat else 3)
    if not isinstance(axes, list | tuple) or not all(isinstance(axis, int) and axis in valid for axis in axes):
        raise CheckpointError(
            f"{where}: inference_allowed_mirroring_axes is {axes!r}; expected a list of axes from 0 to {valid[-1]}"
        )
    return tuple(sorted(plans.transpose[int(axis) + (1 if flat else 0)] for axis in axes))


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256("".join(file_sha256(file) for file in files).encode()).hexdigest()
