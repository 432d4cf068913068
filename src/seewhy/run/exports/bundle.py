"""Write a run as a MONAI bundle: configurations, weights, scripts and descriptions that MONAI runs without seewhy."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.module import _jit_is_scripting
from monai.bundle import ConfigParser

from seewhy import __version__
from seewhy.errors import ExportError
from seewhy.io.atomic import atomic_folder, write_json
from seewhy.models.exporting import ExportGraph, ExportParts
from seewhy.run.exports.bundle_config import describe_inference
from seewhy.run.exports.graphs import TOLERANCE

__all__ = ["write_bundle"]

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
SCRIPTS = Path(__file__).parent / "bundle_scripts"
SHARED = ("windows", "resizing")
"""Modules of `seewhy_run.arrays` that the scripts import."""
LICENSE = """\
The files in scripts/ are part of seewhy and licensed under the Apache License, Version 2.0
(https://www.apache.org/licenses/LICENSE-2.0).

The weights in models/ belong to whoever trained them. This file grants no licence to them: whoever passes the bundle on
writes the licence of the weights here, and respects that of the data that they were trained on.
"""


def write_bundle(parts: ExportParts, reading: Any, folder: Path, *, facts: Mapping[str, Any]) -> float:
    """Write the bundle of a run, atomically.

    Args:
        parts: of the model.
        reading: of the DataModule.
        folder: to create.
        facts: `name`, `use`, `phantom` and `source` of the run.

    Returns:
        Largest difference between the network that MONAI builds from the bundle and the run's.

    Raises:
        ConfigError: the preprocessing or the result cannot be expressed.
        ExportError: the network cannot be written, or gives other results.
    """
    graph = next(iter(parts.graphs.values()))
    config = describe_inference(parts, reading, graph)
    with atomic_folder(folder) as temporary:
        for name in ("configs", "models", "docs", "scripts"):
            (temporary / name).mkdir()
        _write_weights(graph, temporary / "models")
        write_json(temporary / "configs" / "inference.json", config)
        write_json(temporary / "configs" / "metadata.json", _describe(parts, graph, facts))
        _write_scripts(temporary / "scripts")
        (temporary / "docs" / "README.md").write_text(_write_readme(parts, config, facts), encoding="utf-8")
        (temporary / "LICENSE").write_text(LICENSE, encoding="utf-8")
        difference = _compare(graph, temporary, config)
        if not difference <= TOLERANCE:
            raise ExportError(f"the bundle's network differs by {difference:.1e} from the run's; it was not written")
    return difference


def _write_weights(graph: ExportGraph, folder: Path) -> None:
    """`model.pt` with the weights of a network of MONAI, or `model.ts`, a TorchScript program of any other."""
    if graph.defined is not None:
        torch.save(
            {name: value.detach().cpu() for name, value in graph.defined.state_dict().items()}, folder / "model.pt"
        )
        return
    module = graph.module.eval()
    try:
        # With gradients, no network splits its batch into pieces, whose number tracing would fix. Tracing reads every
        # property of a module, and the Trainer of a LightningModule only exists within Lightning's own context.
        with torch.enable_grad(), _jit_is_scripting(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(module, tuple(graph.inputs.values()), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced.eval()), folder / "model.ts")
    except Exception as error:  # tracing raises many kinds of errors
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{type(module).__name__} cannot be traced as TorchScript: {reason}") from error


def _write_scripts(folder: Path) -> None:
    """Copy the scripts, and what they use of the runner's arrays."""
    home = Path(str(importlib.import_module("seewhy_run.arrays").__file__)).parent
    for path in sorted(SCRIPTS.glob("*.py")):
        text = path.read_text(encoding="utf-8").replace("from seewhy_run.arrays.", "from scripts.")
        (folder / path.name).write_text(text, encoding="utf-8")
    for name in SHARED:
        (folder / f"{name}.py").write_text((home / f"{name}.py").read_text(encoding="utf-8"), encoding="utf-8")


def _compare(graph: ExportGraph, folder: Path, config: Mapping[str, Any]) -> float:
    """Largest difference between the bundle's network, built as MONAI builds it, and the run's on one example."""
    parser = ConfigParser({**config, "bundle_root": str(folder), "device": "$torch.device('cpu')"})
    network = parser.get_parsed_content("network")
    if "checkpoint" in config:
        network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(value.shape[1:], generator=generator)[None] for value in graph.inputs.values()]
    with torch.no_grad():
        expected, found = graph.module.eval()(*inputs), network.eval()(*inputs)
    return float(((expected - found).abs() / expected.abs().clamp(min=1)).max())


def _describe(parts: ExportParts, graph: ExportGraph, facts: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata.json` with the fields of MONAI's specification."""
    image = next(iter(graph.inputs.values()))
    with torch.no_grad():
        result = graph.module.eval()(image[:1])
    shape = list(image.shape[2:])
    spatial = result.ndim > 2
    classes = list(parts.classes) or ["output"]
    heads = int(result.shape[1])
    names = ["background", *classes] if spatial and heads == len(classes) + 1 else classes[-heads:]
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"written by seewhy {__version__}"},
        "monai_version": importlib.metadata.version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {"nibabel": importlib.metadata.version("nibabel")},
        "name": str(facts["name"]),
        "task": f"{'Segmentation' if spatial else 'Classification'} of volumes: {', '.join(classes)}",
        "description": f"The network of the seewhy run {facts['name']}, with its preprocessing and postprocessing.",
        "authors": "see docs/README.md",
        "copyright": "see LICENSE",
        "data_source": "synthetic phantoms" if facts["phantom"] else "the data of the run",
        "data_type": "nifti",
        "intended_use": facts["use"],
        "eval_metrics": {},
        "seewhy": dict(facts["source"]),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "n/a",
                    "num_channels": int(image.shape[1]),
                    "spatial_shape": shape,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": spatial,
                    "channel_def": {str(number): "image" for number in range(image.shape[1])},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image" if spatial else "probabilities",
                    "format": "segmentation" if spatial else "classes",
                    "num_channels": heads,
                    "spatial_shape": shape if spatial else [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": spatial,
                    "channel_def": {str(number): name for number, name in enumerate(names)},
                }
            },
        },
    }


def _write_readme(parts: ExportParts, config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """`docs/README.md`: use, files, limits and origin."""
    source = json.dumps(dict(facts["source"]), indent=2)
    results = "labels and probabilities as NIfTI" if "labels" in str(config["postprocessing"]) else "predictions.csv"
    phantom = "\n**Trained on synthetic phantoms: it knows no patient.**\n" if facts["phantom"] else ""
    return f"""\
# {facts["name"]}
{phantom}
Classes: {", ".join(parts.classes) or "none"}. {facts["use"]}

## Run

    pip install monai nibabel fire
    cd <this folder>
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir <folder of NIfTI> --output_dir out

The results are {results}, those of `predict.py` of seewhy {__version__}. `scripts/` holds what MONAI has no part for;
the command starts in this folder, or names it: `--bundle_root <folder>`.

## Limits

- Images are read as they are stored. They must have the orientation of the training images.
- See results.json and report.html of the run for scores, floors and intervals. A new scanner needs a new evaluation.

## Origin

```json
{source}
```
"""
