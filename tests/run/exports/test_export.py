"""Exports are checked before they run, and the runner imports neither torch nor seewhy."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seewhy.errors import ExportError
from seewhy.models.exporting import ExportGraph
from seewhy.run.exports.graphs import write_graph
from seewhy_run.arrays.resizing import interpolate
from seewhy_run.errors import RunError
from seewhy_run.manifest import read_export

RUNNER = Path(__file__).resolve().parents[3] / "src" / "seewhy_run"


def test_the_runner_imports_neither_torch_nor_seewhy():
    allowed = {"seewhy_run", "numpy", "nibabel", "onnxruntime", "PIL", "scipy", "zarr"}
    for path in RUNNER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.split(".")[0]
                assert top in allowed or top in __import__("sys").stdlib_module_names, f"{path} imports {name}"


def write(folder, **changes):
    """An export of a tiny classifier with changed entries."""
    graph = ExportGraph(
        module=nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(1, 2)),
        inputs={"image": torch.rand(2, 1, 4, 4, 4)},
        free={},
        outputs=["logits"],
    )
    record, error = write_graph(graph, folder, name="network", form="onnx")
    assert error < 1e-5
    read = {"step": "read_stack", "axis": 0, "slices": None, "depth": None, "size": None, "pad": 0, "normalize": "none"}
    classify = {"step": "classify", "graph": "network", "inputs": ["image"], "classes": ["a", "b"], "temperature": 1.0}
    manifest = {
        "format": "seewhy-export", "version": 1, "model": "onnx", "name": "tiny", "inputs": ["image"],
        "graphs": {"network": record}, "steps": [read, classify],
    }  # fmt: skip
    (folder / "export.json").write_text(json.dumps({**manifest, **changes}))
    return manifest


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"version": 2}, "version 2"),
        ({"surprise": 1}, "surprise"),
        ({"steps": [{"step": "classifi"}]}, "classify"),
        ({"steps": [{"step": "classify", "graph": "network"}]}, "classes"),
        ({"model": "torch_export"}, "torch"),
    ],
)
def test_what_a_runner_does_not_know_is_refused(tmp_path, changes, fact):
    write(tmp_path, **changes)
    with pytest.raises(RunError, match=fact):
        read_export(tmp_path)


def test_a_changed_network_and_a_step_without_its_input_are_refused(tmp_path):
    manifest = write(tmp_path)
    assert read_export(tmp_path).graphs["network"].record.outputs == ("logits",)
    write(tmp_path, steps=manifest["steps"][1:])
    with pytest.raises(RunError, match="needs image"):
        read_export(tmp_path)
    write(tmp_path)
    with (tmp_path / "network.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="SHA-256"):
        read_export(tmp_path)


class FixedByTracing(nn.Module):
    def forward(self, image):
        return image * float(image.shape[2])


def test_a_size_that_tracing_fixes_is_found(tmp_path):
    graph = ExportGraph(
        module=FixedByTracing(),
        inputs={"image": torch.rand(2, 1, 4, 4)},
        free={"image": {2: "h", 3: "w"}},
        outputs=["y"],
    )
    with pytest.raises(ExportError, match="differs"):
        write_graph(graph, tmp_path, name="network", form="onnx")


def test_maps_are_resized_as_torch_resizes_them():
    maps = np.random.default_rng(0).random((2, 3, 5, 7), np.float32)
    for size in ((10, 11), (3, 4), (5, 7)):
        expected = nn.functional.interpolate(torch.from_numpy(maps), size=size, mode="bilinear", align_corners=False)
        np.testing.assert_allclose(interpolate(maps, size), expected.numpy(), atol=1e-6)
