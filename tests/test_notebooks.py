"""Notebooks are stored without outputs, and their code runs from the first to the last cell on a run folder."""

import ast
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from seewhy.cli.compose import compose_train
from seewhy.run.train import train

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


def code_cells(path):
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with one tiny run below `lightning_logs/`."""
    folder = tmp_path_factory.mktemp("home")
    train(
        compose_train(
            "experiment=demo/brats",
            "phantom.patients=8",
            "phantom.slices=4",
            "phantom.size=48",
            "trainer.max_epochs=1",
            "data.batches_per_epoch=3",
            "data.batch_size=4",
            "trainer.log_every_n_steps=1",
            "trainer.enable_progress_bar=false",
            "trainer.enable_model_summary=false",
            "callbacks.progress=null",
            "callbacks.maps.max_samples=4",
            f"paths.data_dir={folder}/data",
            f"++paths.output_dir={folder}/lightning_logs/demo/brats/now",
        )
    )
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_outputs_are_stored(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_cell_runs_and_pictures_can_be_shown(path, home, monkeypatch):
    monkeypatch.chdir(home)
    namespace, pictures = {}, 0
    for source in code_cells(path):
        # The code is tested, not its result: small pictures, and few channels.
        shown = run_cell(source.replace("SIZE = 224", "SIZE = 64").replace("channels=32", "channels=4"), namespace)
        assert not isinstance(shown, Figure), "a bare figure is not shown: it has no pyplot"
        if hasattr(shown, "_repr_png_"):
            assert shown._repr_png_().startswith(b"\x89PNG")
            pictures += 1
    assert pictures >= 1


def run_cell(source, namespace):
    """Run a cell; the value of its last expression, which a notebook would show."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace) if last else None
