"""Exports are checked before they run, and the runner imports neither torch nor seewhy."""

import ast
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seewhy.errors import DataError, ExportError
from seewhy.io.image import read_image
from seewhy.models.exporting import ExportGraph
from seewhy.run.exports.graphs import write_graph
from seewhy_run.arrays.resizing import interpolate
from seewhy_run.errors import RunError
from seewhy_run.files import read_picture
from seewhy_run.manifest import read_export
from seewhy_run.steps.planes import _read_array

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


def encode_png(values, colours):
    """A PNG of 16 bits per value, which Pillow cannot write for colours."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)
    packed = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + packed


def test_pictures_have_the_values_that_seewhy_reads(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (9, 7), dtype=np.uint8)
    path = tmp_path / "one.png"
    for mode in ("1", "L", "LA", "P", "RGB"):
        Image.fromarray(grey).convert(mode).save(path)
        assert np.array_equal(read_picture(path), read_image(path))
    Image.fromarray(rng.integers(0, 65536, (9, 7), dtype=np.uint16)).save(path)
    assert read_picture(path).dtype == np.uint16
    assert np.array_equal(read_picture(path), read_image(path))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        for suffix in ("png", "jpg"):
            turned = tmp_path / f"{orientation}.{suffix}"
            Image.fromarray(grey).save(turned, exif=exif)
            assert np.array_equal(read_picture(turned), read_image(turned))


@pytest.mark.parametrize(("channels", "colours"), [(3, 2), (4, 6), (2, 4)])
def test_colours_of_16_bits_are_refused(tmp_path, channels, colours):
    path = tmp_path / "deep.png"
    path.write_bytes(encode_png(np.full((9, 7, channels), 40000), colours))
    for read, error in ((read_image, DataError), (read_picture, RunError)):
        with pytest.raises(error, match=r"deep\.png .*8 bits"):
            read(path)


def test_formats_that_only_seewhy_reads_are_named(tmp_path):
    path = tmp_path / "one.tif"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    for start in (path.name, "one.png"):
        renamed = path.rename(tmp_path / start)
        read = _read_array if start == path.name else read_picture
        with pytest.raises(RunError, match=re.escape(str(renamed))):
            read(renamed)
