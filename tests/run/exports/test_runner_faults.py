"""The runner on damaged descriptions, tables and cases: one line with the place, and no file of a case that failed."""

import json
import os
import re

import nibabel as nib
import numpy as np
import pytest
from torch import nn, rand

from seewhy.models.exporting import ExportGraph
from seewhy.run.exports.graphs import write_graph
from seewhy_run.cases import list_cases
from seewhy_run.errors import RunError
from seewhy_run.main import _run_case, main
from seewhy_run.manifest import MANIFEST, Export, Manifest, read_export
from seewhy_run.steps.base import State
from seewhy_run.steps.maps import ActivationMaps, Regions
from seewhy_run.steps.subjects import ReadSubject
from seewhy_run.steps.volumes import WriteVolume

STACK = {"axis": 0, "slices": None, "depth": None, "size": None, "pad": 0, "normalize": "none"}
MAPS = {
    "graph": "network", "maps": ("cam",), "pooling": "lse", "sharpness": 4.0, "fraction": 0.1, "scales": (1.0,),
    "mirrors": (), "normalize": "sigmoid", "gate": None, "background": 0.5, "walk": None, "refinement": None,
    "batch": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export of a tiny classifier of volumes, and a scan."""
    folder = tmp_path_factory.mktemp("export")
    graph = ExportGraph(
        module=nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(1, 2)),
        inputs={"image": rand(2, 1, 4, 4, 4)},
        free={},
        outputs=["logits"],
    )
    record, _ = write_graph(graph, folder, name="network", form="onnx")
    read = {"step": "read_stack", **STACK}
    classify = {"step": "classify", "graph": "network", "inputs": ["image"], "classes": ["a", "b"], "temperature": 1.0}
    manifest = {
        "format": "seewhy-export", "version": 1, "model": "onnx", "name": "tiny", "inputs": ["image"],
        "graphs": {"network": record}, "steps": [read, classify],
    }  # fmt: skip
    (folder / "good.json").write_text(json.dumps(manifest))
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), folder / "scan.nii.gz")
    return folder


@pytest.fixture
def change(folder):
    """Write the description with one entry changed: `change("steps.1.graph", "nope")`."""

    def call(place, value):
        manifest = json.loads((folder / "good.json").read_text())
        *parents, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
        node = manifest
        for part in parents:
            node = node[part]
        node[last] = value
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return call


@pytest.mark.parametrize(
    ("place", "value", "fact"),
    [
        ("inputs", [], "inputs none"),
        ("inputs", ["a", "a"], "a, a"),
        ("steps", [], "0 steps"),
        ("graphs", {}, "runs the network 'network'"),
        ("steps.1.graph", "net", "nearest: 'network'"),
        ("steps.1.temperature", float("nan"), "finite number"),
        ("graphs.network.inputs", [], "inputs are none"),
        ("graphs.network.inputs", [5], "expected a mapping"),
        ("graphs.network.inputs.0", {"shape": [1]}, "name missing"),
        ("graphs.network.inputs.0.shape", 5, "shape is 5"),
        ("graphs.network.inputs.0.shape", [1.5], "shape is 1.5"),
        ("graphs.network.inputs.0.dtype", "object", "dtype is 'object'"),
        ("graphs.network.inputs.0.name", "other", "takes image"),
        ("graphs.network.outputs", ["other"], "gives logits"),
        ("graphs.network.outputs", ["logits", "logits"], "logits, logits"),
        ("graphs.network.multiple_of", 0, "multiple_of=0"),
        ("steps.1", {"step": "read_stack", **STACK}, "step 2 .* is there twice"),
    ],
)
def test_a_damaged_description_is_refused_before_anything_runs(folder, change, place, value, fact):
    change(place, value)
    with pytest.raises(RunError, match=fact):
        read_export(folder)


@pytest.mark.parametrize(
    ("place", "value", "fact"),
    [
        ("steps.1.inputs", ["nope"], r"step 2 \(classify\).*KeyError"),
        ("steps.1.inputs", ["image", "image"], "network.onnx takes image"),
        ("steps.1.classes", ["a"], "2 classes"),
        ("steps.0.size", [0, 4], r"step 1 \(read_stack\)"),
        ("graphs.network.inputs.0.shape", ["batch", 1, 4], "network.onnx takes image of batchx1x4"),
        ("steps", [{"step": "read_stack", **STACK}], "no step of export.json writes results"),
    ],
)
def test_a_description_that_does_not_fit_is_one_line_of_the_case(folder, change, tmp_path, capsys, place, value, fact):
    change(place, value)
    with pytest.raises(SystemExit, match="1"):
        main([str(folder), str(folder / "scan.nii.gz"), "--output", str(tmp_path / "out")])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert re.search(fact, lines[0])
    assert not (tmp_path / "out").exists()


def test_a_case_that_cannot_be_written_whole_leaves_no_file(tmp_path):
    step = WriteVolume(classes={"1": "a"})
    export = Export(
        Manifest(format="", version=1, model="", name="", inputs=("image",), graphs={}, steps=(5,)), (step,), {}
    )
    state = State("p1", {"image": tmp_path / "p1.npy"}, tmp_path)
    state.values = {"labels": np.ones((2, 2, 2), np.uint8), "probability": np.ones((2, 2, 2), "f4"), "source": None}
    (tmp_path / "p1_probability.npy").mkdir()
    with pytest.raises(RunError, match=r"case p1: .*p1_probability\.npy"):
        _run_case(export, state)
    assert [path.name for path in tmp_path.iterdir()] == ["p1_probability.npy"]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "has no column id, image"),
        ("id;image\na;b\n", "commas"),
        ("id,image,image\na,b,c\n", "image twice"),
        ("id,image\n,b\n", "row 2 has no id"),
        ("id,image\na,b\n\nc,d,e\n", "row 4 has 3 cells, the header 2"),
        ('id,image\n"a,b\n', "cannot be read as CSV"),
    ],
)
def test_damaged_tables_are_named_with_the_row(tmp_path, text, fact):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(RunError, match=fact):
        list_cases([], ["image"], table=tmp_path / "cases.csv", optional=False)


def test_a_table_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path, fact in ((tmp_path / "pipe.csv", "is not a file"), (tmp_path / "none.csv", "does not exist")):
        with pytest.raises(RunError, match=fact):
            list_cases([], ["image"], table=path, optional=False)


NO_CLASSES = {"presence_threshold": (), "kept": ()}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((ActivationMaps, {**MAPS, name: value}) for name, value in (
            ("maps", ("cams",)), ("sharpness", 0.0), ("fraction", 1.5), ("background", -1.0), ("gate", 1.5),
            ("walk", {"radios": 1}), ("refinement", {"dilation": [1]}), ("scales", (0.0,)),
        )),
        (Regions, {"evidence": "cam", "options": {"levels": 1}, "channel": 0, "weigh_slices": True, **NO_CLASSES}),
        (Regions, {"evidence": "cam", "options": {}, "channel": -1, "weigh_slices": True, **NO_CLASSES}),
        (ReadSubject, {"modalities": (), "percentiles": (99.0, 1.0), "image_size": None, "multiple_of": 1}),
        (ReadSubject, {"modalities": (), "percentiles": (1.0, 99.0), "image_size": None, "multiple_of": -1}),
    ],
)  # fmt: skip
def test_options_that_would_silently_give_other_results_are_refused(kind, options):
    ActivationMaps(**MAPS)
    with pytest.raises(RunError):
        kind(**options)
