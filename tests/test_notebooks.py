"""Notebooks: stored clean, plain Python over names that exist, and pages that have the outputs of a run.

The notebooks themselves run when the site of the documentation is built, once in CI.
"""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SYSTEMS = {
    "amd_grading": "amd", "harmonization": "harmonization", "mri_classification": "mri",
    "volume_segmentation": "volumes", "weakly_supervised": "weakly-supervised", "judging_maps": "reading-maps",
}  # fmt: skip
"""Notebook → the page of the documentation that it belongs to."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

of_each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
of_systems = pytest.mark.parametrize("name", SYSTEMS)


def cells_of(path, kind):
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def code_of(path):
    return ast.parse("\n".join(cells_of(path, "code")))


@of_each
def test_it_is_stored_clean(path):
    nbformat = pytest.importorskip("nbformat", reason="pip install 'seewhy[docs]'")
    notebook = json.loads(path.read_text())
    nbformat.validate(notebook)
    assert notebook["metadata"] == METADATA
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@of_each
def test_it_is_python_without_tricks_and_imports_what_exists(path):
    text = "\n".join(cells_of(path, "code"))
    assert [trick for trick in ("sys.path", "chdir", "hydra", "omegaconf", "seewhy.cli") if trick in text] == []
    attributes = [node.attr for node in ast.walk(code_of(path)) if isinstance(node, ast.Attribute)]
    assert [name for name in attributes if name.startswith("_") and name != "__init__"] == []
    imports = [node for node in ast.walk(code_of(path)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.split(".")[0] == "seewhy"]
    assert ours
    for node in ours:
        module = importlib.import_module(node.module)
        assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


@of_each
def test_its_links_lead_to_files(path):
    links = re.findall(r"\]\(([^)\s#]+)", "\n".join(cells_of(path, "markdown")))
    assert [link for link in links if not (path.parent / link).is_file()] == []


@of_systems
def test_it_shows_a_system_without_configuration_files(name):
    path = ROOT / "notebooks" / f"{name}.ipynb"
    text = "\n".join(cells_of(path, "markdown"))
    called = {
        node.func.id for node in ast.walk(code_of(path)) if isinstance(node, ast.Call) and hasattr(node.func, "id")
    }
    attributes = {node.attr for node in ast.walk(code_of(path)) if isinstance(node, ast.Attribute)}
    assert "DataLoader" in called
    assert {"backward", "step", "manual_seed"} <= attributes
    if name != "judging_maps":
        assert {"Trainer", "seed_everything"} <= called
        assert {"fit", "test", "save", "load", "explain"} <= attributes
    assert "phantom" in text
    assert "floor" in text
    limits = text.split("## What these figures may not claim", 1)[1]
    assert len(re.findall(r"^\d\. \*\*", limits, re.MULTILINE)) >= 4


@of_systems
def test_the_page_of_its_system_links_to_it(name):
    assert f"](../notebooks/{name}.ipynb)" in (ROOT / "docs" / f"{SYSTEMS[name]}.md").read_text()


@pytest.fixture(scope="module")
def pages():
    """The module that makes the pages."""
    for library in ("mkdocs", "nbconvert", "nbclient", "ipykernel"):
        pytest.importorskip(library, reason="pip install 'seewhy[docs]'")
    sys.path.insert(0, str(ROOT / "docs" / "generate"))
    return importlib.import_module("notebook")


def write_notebook(path, *sources):
    cells = [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Title\n\nText."}]
    cells += [
        {"cell_type": "code", "id": f"c{k}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for k, source in enumerate(sources)
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_page_has_text_tables_and_pictures_of_a_run(pages, tmp_path):
    sheet = (
        "import numpy as np\nfrom seewhy.figures.explanations.map_sheet import map_sheet\nmap_sheet({'A': np.eye(9)})"
    )
    table = "import pandas as pd\npd.DataFrame({'dice': {'floor': 0.25}})"
    path = write_notebook(tmp_path / "mine.ipynb", "print('seven', 3 + 4)", sheet, table)
    files = pages._render(path, path.read_text(), True)
    page = files["notebooks/mine.md"]
    assert page.startswith("# Title\n\n*To run it yourself")
    assert "seven 7" in page
    [image] = re.findall(r"!\[Output of the cell above\]\((.+?)\)", page)
    assert files[f"notebooks/{image}"].startswith(b"\x89PNG")
    assert "<table>" in page
    assert "<td>0.25</td>" in page
    assert "<style" not in page


def test_a_cell_that_raises_ends_the_build(pages, tmp_path):
    from mkdocs.exceptions import PluginError

    path = write_notebook(tmp_path / "broken.ipynb", "1 / 0")
    with pytest.raises(PluginError, match=r"broken\.ipynb(.|\n)*ZeroDivisionError"):
        pages._render(path, path.read_text(), True)


def test_without_running_them_the_pages_have_code_only(pages):
    files = pages.write_pages(execute=False)
    assert set(files) == {pages.page_of(path) for path in NOTEBOOKS}
    assert all("built without running it" in page and "```python" in page for page in files.values())
