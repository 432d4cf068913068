"""Describe reading, windows and results of an export as a configuration of MONAI."""

from __future__ import annotations

from typing import Any

from seewhy.errors import ConfigError
from seewhy.models.exporting import ExportGraph, ExportParts
from seewhy_run.steps.base import describe_step
from seewhy_run.steps.classify import Classify
from seewhy_run.steps.stacks import ReadStack
from seewhy_run.steps.volumes import ReadVolume, WriteVolume
from seewhy_run.steps.windows import SegmentWindows

__all__ = ["describe_inference"]

TURNED = [0, 3, 2, 1]
"""From [C, X, Y, Z], as MONAI reads files, to [C, Z, Y, X], as seewhy's networks for volumes see them, and back."""
Node = dict[str, Any]


def describe_inference(parts: ExportParts, reading: Any, graph: ExportGraph) -> Node:
    """Configuration `inference.json` of a bundle.

    Args:
        parts: of the model.
        reading: of the DataModule.
        graph: the network.

    Raises:
        ConfigError: steps or normalisations that transforms of MONAI cannot express; `format=onnx` takes them.
    """
    if len(parts.graphs) != 1 or tuple(reading.inputs) != ("image",):
        raise _refuse(f"a model with the inputs {', '.join(reading.inputs)} and {len(parts.graphs)} networks")
    steps = [reading.step, *parts.steps]
    match steps:
        case [ReadVolume() as read, SegmentWindows() as windows, WriteVolume()]:
            before, inferer, after = _prepare_volume(read), _place_windows(windows), _write_labels(windows)
        case [ReadStack() as stack, Classify() as classify]:
            before, inferer, after = _prepare_stack(stack), {"_target_": "SimpleInferer"}, _write_scores(classify)
        case _:
            raise _refuse(f"the steps {', '.join(str(describe_step(step)['step']) for step in steps)} of this model")
    config: Node = {
        "imports": ["$import glob", "$import os", "$import sys", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz') + glob.glob(@dataset_dir + '/*.nii'))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    }
    if graph.definition is None:
        config["network_def"] = "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)"
    else:
        config["network_def"] = dict(graph.definition)
        config["checkpoint"] = "$@bundle_root + '/models/model.pt'"
    loaded = {"checkpoint": "@checkpoint"} if "checkpoint" in config else {}
    return {
        **config,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": before},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": after},
        "evaluator": {
            "_target_": "scripts.evaluator.CaseEvaluator",
            "dataloader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "device": "@device",
            **loaded,
        },
        "initialize": ["$sys.path.insert(0, os.path.abspath(@bundle_root))"],
        "run": ["$@evaluator.run()"],
    }


def _refuse(reason: str) -> ConfigError:
    return ConfigError(f"format=monai_bundle: transforms of MONAI cannot express {reason}; use format=onnx")


def _transform(name: str, **options: Any) -> Node:
    return {"_target_": name, "keys": "image", **options}


def _load() -> list[Node]:
    return [
        _transform("LoadImaged"),
        _transform("EnsureChannelFirstd"),
        _transform("EnsureTyped", dtype="$torch.float32"),
    ]


def _prepare_volume(step: ReadVolume) -> list[Node]:
    """Axes as the network sees them, and the normalisation of the training."""
    found = _load()
    if step.check_spacing and step.spacing is not None and any(size is not None for size in step.spacing):
        found.append(_transform("scripts.transforms.CheckSpacingd", spacing=list(step.spacing)[::-1]))
    found.append(_transform("Transposed", indices=TURNED))
    # Windows of one value are found in the image as stored: clipping makes further ones.
    found.append(_transform("CopyItemsd", names="raw"))
    schemes = [dict(scheme) for scheme in step.normalization]
    if any(scheme != schemes[0] for scheme in schemes):
        raise _refuse("different normalisations of the channels")
    found += _normalize(schemes[0], channels=len(schemes))
    return found


def _normalize(scheme: Node, *, channels: int) -> list[Node]:
    """Transforms of one normalisation, the same for every channel."""
    kind, nonzero = scheme["scheme"], scheme.get("nonzero", False)
    if kind == "none":
        return []
    if nonzero and (nonzero != True or channels > 1 or kind != "zscore"):  # noqa: E712
        raise _refuse(f"the normalisation {kind} over voxels that are not 0")
    if kind == "zscore":
        return [_transform("NormalizeIntensityd", nonzero=bool(nonzero), channel_wise=True)]
    if kind == "rescale":
        return [_transform("ScaleIntensityd", minv=0.0, maxv=1.0, channel_wise=True)]
    if kind == "percentile":
        ends = {"lower": float(scheme.get("low", 0.5)), "upper": float(scheme.get("high", 99.5))}
        return [
            _transform("ScaleIntensityRangePercentilesd", **ends, b_min=0.0, b_max=1.0, clip=True, channel_wise=True)
        ]
    if kind == "ct":
        low, high, mean = (float(scheme[key]) for key in ("lower", "upper", "mean"))
        std = max(float(scheme["std"]), 1e-8)
        ends = {"b_min": (low - mean) / std, "b_max": (high - mean) / std}
        return [_transform("ScaleIntensityRanged", a_min=low, a_max=high, **ends, clip=True)]
    if kind == "scale":
        return [_transform("ScaleIntensityRanged", a_min=0.0, a_max=float(scheme["by"]), b_min=0.0, b_max=1.0)]
    raise _refuse(f"the normalisation {kind}")


def _place_windows(step: SegmentWindows) -> Node:
    return {
        "_target_": "scripts.inferer.EvenWindows",
        "roi_size": list(step.patch),
        "overlap": step.overlap,
        "mode": step.window,
        "mirror_axes": list(step.mirror_axes),
        "skip_empty": step.skip_empty,
        "several": step.mode == "regions",
    }


def _write_labels(step: SegmentWindows) -> list[Node]:
    """Probabilities, and the labels that follow from them."""
    several = step.mode == "regions"
    made: list[Node] = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": several, "softmax": not several},
        {"_target_": "CopyItemsd", "keys": "pred", "names": "labels"},
    ]
    if several:
        order = {"order": list(step.class_order), "threshold": step.threshold}
        made.append({"_target_": "scripts.transforms.RegionsToLabelsd", "keys": "labels", **order})
    elif step.mode == "binary" and step.threshold != 0.5:
        raise _refuse(f"the threshold {step.threshold} of two classes")
    else:
        made.append({"_target_": "AsDiscreted", "keys": "labels", "argmax": True})
    made.append({"_target_": "Transposed", "keys": ["pred", "labels"], "indices": TURNED})
    for key, name, kind in (("pred", "probability", "float32"), ("labels", "labels", "uint8")):
        made.append(
            {
                "_target_": "SaveImaged",
                "keys": key,
                "output_dir": "@output_dir",
                "output_postfix": name,
                "output_dtype": f"$torch.{kind}",
                "separate_folder": False,
                "resample": False,
            }
        )
    return made


def _prepare_stack(step: ReadStack) -> list[Node]:
    """Normalise the whole volume, and cut its slices."""
    if step.normalize not in ("zscore", "none"):
        raise _refuse(f"the normalisation {step.normalize}")
    axis = _find_axis(step)
    others = [other for other in range(3) if other != axis]
    found = _load()
    if step.normalize == "zscore":
        found.append(_transform("NormalizeIntensityd", nonzero=False, channel_wise=True))
    found.append(_transform("Transposed", indices=[0, 1 + axis, *(1 + other for other in others)]))
    fit = {
        "slices": None if step.slices is None else list(step.slices),
        "depth": step.depth,
        "size": list(step.size) if isinstance(step.size, tuple) else step.size,
        "pad": step.pad,
        "codes": step.codes,
    }
    found.append(_transform("scripts.transforms.FitSlicesd", **fit))
    return found


def _find_axis(step: ReadStack) -> int:
    """Number of the axis across the slices."""
    if isinstance(step.axis, int):
        return step.axis
    if step.codes is None:
        raise _refuse(f"{step.axis} slices of volumes that are stored in different orientations")
    from seewhy_run.steps.stacks import AXES

    return next(axis for axis, code in enumerate(step.codes) if code in AXES[step.axis])


def _write_scores(step: Classify) -> list[Node]:
    return [
        {
            "_target_": "scripts.transforms.WriteProbabilitiesd",
            "keys": "pred",
            "classes": list(step.classes),
            "path": "$@output_dir + '/predictions.csv'",
            "temperature": step.temperature,
        }
    ]
