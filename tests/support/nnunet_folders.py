"""nnU-Net v2 model folders as nnU-Net writes them, with small networks of random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


def architecture(name: str = "PlainConvUNet", dimension: int = 3) -> dict[str, Any]:
    convolutions = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
            "kernel_sizes": [[3] * dimension] * 2,
            "strides": [[1] * dimension, [2] * dimension],
            convolutions: [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(**changes: Any) -> dict[str, Any]:
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8, 16, 32],
        "spacing": [3.0, 1.0, 0.5],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture(),
        **changes,
    }
    intensities = {"percentile_00_5": -900.0, "percentile_99_5": 300.0, "mean": -40.0, "std": 120.0}
    return {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {
            "3d_fullres": configuration,
            "3d_small": {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]},
        },
    }


def build(arch: Mapping[str, Any], channels: int, heads: int) -> torch.nn.Module:
    options = dict(arch["arch_kwargs"])
    for key in arch["_kw_requires_import"]:
        name = options[key]
        options[key] = None if name is None else getattr(torch.nn, name.rpartition(".")[2])
    networks = pytest.importorskip(
        "dynamic_network_architectures.architectures.unet", reason="pip install 'seewhy[nnunet]'"
    )
    kind = getattr(networks, arch["network_class_name"].rpartition(".")[2])
    return kind(input_channels=channels, num_classes=heads, deep_supervision=True, **options)


def write_folder(
    folder: Path,
    content: Mapping[str, Any] | None = None,
    *,
    labels: Mapping[str, Any] | None = None,
    heads: int = 3,
    channels: int = 1,
    folds: tuple[str, ...] = ("0",),
    configuration: str = "3d_fullres",
    arch: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    **dataset: Any,
) -> list[torch.nn.Module]:
    """Write a folder; gives the networks that lie in it."""
    folder.mkdir(parents=True)
    content = content or plans()
    labels = labels or {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}
    names = {str(channel): f"channel {channel}" for channel in range(channels)}
    record = {"channel_names": names, "labels": labels, "file_ending": ".nii.gz", **dataset}
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(record))
    networks = []
    for index, fold in enumerate(folds):
        torch.manual_seed(index)
        network = build(arch or content["configurations"]["3d_fullres"]["architecture"], channels, heads)
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9).state_dict(),
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch_start_timestamps": [1.0]},
            "_best_ema": np.float64(0.7),
            "current_epoch": 2,
            "init_args": {"plans": content, "configuration": configuration, "fold": 0, "device": torch.device("cpu")},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 2),
            **(more or {}),
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        networks.append(network.eval())
    return networks
