"""Checkpoints of SA-CycleGAN-2.5D and of its baseline as run folders of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from omegaconf import DictConfig, open_dict
from torch import Tensor

from seewhy.batch import MODALITIES, STACK_SLICES
from seewhy.errors import CheckpointError
from seewhy.interop.reference.cyclegan import CycleGANCheckpoint, read_cyclegan
from seewhy.run.build import build_datamodule
from seewhy.run.importing.run_folder import begin_run, free_folder, next_command, write_run

__all__ = ["import_cyclegan"]

PERCENTILES = [1.0, 99.0]
"""Of the tissue, which became 0 and 1 in the published preparation."""
WEIGHTS = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0, "ssim": 1.0, "gradient": 0.0, "nce": 0.0}
"""Of the published losses."""


def import_cyclegan(
    file: Path,
    folder: Path,
    config: DictConfig,
    *,
    direction: Literal["A2B", "B2A"],
    root: str | None,
    overwrite: bool,
) -> str:
    """Bring a checkpoint of the harmonisation reference into a run folder.

    Values that the networks take and give are [0, 1], as the published training had them; batches of ours stay in
    [-1, 1]. What these stand for in scans is not in the file: it is the median of the subjects below `root`, where
    that is given, and else `predict.py` has to write `units=source`.

    Args:
        file: the reference's `.pth` or `.npz`.
        folder: run folder to make: `config.yaml`, `checkpoints/{best,last}.ckpt`, `imported.json`.
        config: a training configuration with the data set of two domains and the CycleGAN.
        direction: of a generator that stands alone and unnamed in the file.
        root: the data set's folder; may be given later with `data.root=…`.
        overwrite: replace a run that is there.

    Returns:
        What was imported, in one line.

    Raises:
        CheckpointError: not such a checkpoint, unsafe to load, other sizes of stacks, or the folder holds a run.
        DataError: what is wrong with the data below `root`.
    """
    imported = read_cyclegan(file, direction=direction)
    _check_stacks(file, imported)
    run = free_folder(folder, overwrite)
    begin_run(config, run, root)
    _fit(config, imported)
    state = {
        f"{kind}.{name.lower()}.{key}": tensor
        for kind, nets in (("generators", imported.generators), ("discriminators", imported.discriminators))
        for name, net in nets.items()
        for key, tensor in net.items()
        if kind == "generators" or name.lower() in _judged(imported)
    }
    measured, subjects = ({}, {}) if root is None else _intensities(config)
    record = {
        "network": "SA-CycleGAN-2.5D" if imported.attention else "baseline of SA-CycleGAN-2.5D",
        "directions": sorted(imported.generators),
        "discriminators": sorted(imported.discriminators),
        "epoch": imported.epoch,
        "left_out": list(imported.left_out),
        "intensities_of_subjects": subjects,
        "their_record": imported.record,
    }
    write_run(run, config, file, {**state, **measured}, record, fresh=("discriminators.", "samplers."))
    width, blocks = imported.generator_options["width"], imported.generator_options["blocks"]
    ways = " and ".join(sorted(imported.generators))
    return f"{record['network']}, width {width}, {blocks} blocks, {ways} → {next_command(run)}"


def _check_stacks(file: Path, imported: CycleGANCheckpoint) -> None:
    found = (imported.generator_options["slices"], imported.generator_options["modalities"])
    if found != (STACK_SLICES, len(MODALITIES)):
        raise CheckpointError(
            f"{file} translates {found[0]} slices of {found[1]} modalities; the data set of two domains has stacks of "
            f"{STACK_SLICES} slices of {len(MODALITIES)} ({', '.join(MODALITIES)})"
        )


def _judged(imported: CycleGANCheckpoint) -> set[str]:
    """Domains whose discriminator the model has: those that a generator makes."""
    return {name[-1].lower() for name in imported.generators}


def _fit(config: DictConfig, imported: CycleGANCheckpoint) -> None:
    """Set what the file says, and what its training did."""
    generator = {key: value for key, value in imported.generator_options.items() if key not in ("slices", "modalities")}
    judge = {key: value for key, value in imported.discriminator_options.items() if key != "channels"}
    both = len(imported.generators) > 1
    with open_dict(config):
        config.data.percentiles, config.data.slices = PERCENTILES, STACK_SLICES
        model = config.model
        model.directions = "both" if both else next(iter(imported.generators)).lower()
        model.generator = {"name": "sa" if imported.attention else "plain", **generator, "value_range": "unit"}
        model.discriminator = {"attention": imported.attention, **judge, "value_range": "unit"}
        one_way = {} if both else {"cycle": 0.0, "ssim": 0.0}
        model.losses = {"adversarial": "lsgan", "weights": {**WEIGHTS, **one_way}}
        # Neighbours of fakes were never seen in training: its cycles took one slice back.
        model.cycle, model.legacy_layout = "repeat", both and imported.legacy_layout


def _intensities(config: DictConfig) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Buffers of the model, and domain → how many subjects they were measured on."""
    datamodule: Any = build_datamodule(config)
    buffers, counts = {}, {}
    for domain in ("a", "b"):
        own = [
            datamodule.reader.measure_intensity(subject) for subject in datamodule.subjects if subject.domain == domain
        ]
        counts[domain] = len(own)
        if own:
            median = np.median(np.stack(own), axis=0)
            buffers[f"intensity_{domain}"] = torch.as_tensor(median, dtype=torch.float32)
    return buffers, counts
