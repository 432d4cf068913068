"""Run the notebooks and show each as a page with its outputs. Outputs are not in the repository.

With `EXECUTE_NOTEBOOKS=false mkdocs build` the pages have code without outputs.
"""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger

__all__ = ["list_notebooks", "page_of", "write_pages"]

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
LOGGER = get_plugin_logger("notebooks")
LONGEST_CELL = 600
"""Seconds after which a cell has failed, also on a busy machine."""
AT_ONCE = 2
"""Notebooks that run at the same time, with one thread each."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # Of progress bars without ipywidgets, and of libraries among themselves.
    "PYTHONWARNINGS": "ignore:IProgress not found,ignore:`torch.jit.interface`,ignore:`isinstance(treespec",
}
"""Environment variables of a notebook's process."""


def list_notebooks() -> list[Path]:
    """Notebooks of the repository, sorted by name."""
    return sorted(FOLDER.glob("*.ipynb"))


def page_of(path: Path) -> str:
    """Path of the page of a notebook, relative to `docs/`."""
    return f"notebooks/{path.stem}.md"


def write_pages(*, execute: bool) -> dict[str, str | bytes]:
    """Path relative to `docs/` → content, of the pages and their pictures.

    Args:
        execute: run the notebooks, so that the pages have outputs.

    Raises:
        PluginError: a cell raises an error, which ends the build.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pages = pool.map(lambda path: _render(path, path.read_text(), execute), list_notebooks())
        return {name: content for files in pages for name, content in files.items()}


@lru_cache(maxsize=64)  # `mkdocs serve` builds the site again with every change
def _render(path: Path, text: str, execute: bool) -> dict[str, str | bytes]:
    """The page of a notebook and its pictures."""
    import nbformat
    from nbconvert import MarkdownExporter

    notebook: Any = nbformat.reads(text, as_version=4)
    if execute:
        _execute(path, notebook)
    folder = f"{path.stem}_files"
    resources = {"unique_key": folder, "output_files_dir": folder}
    body, resources = MarkdownExporter().from_notebook_node(notebook, resources)
    page: dict[str, str | bytes] = {page_of(path): _add_note(_adapt_outputs(body), path, execute)}
    return page | {f"notebooks/{name}": data for name, data in resources.get("outputs", {}).items()}


def _execute(path: Path, notebook: Any) -> None:
    """Run all cells; outputs are kept in `notebook`."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    start = time.perf_counter()
    client = NotebookClient(
        notebook, timeout=LONGEST_CELL, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    try:
        client.execute(env={**os.environ, **ENVIRONMENT})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # without colours of a terminal
        raise PluginError(f"{path.name}: {plain}") from error
    LOGGER.info("%s: ran in %.0f s", path.name, time.perf_counter() - start)


def _adapt_outputs(body: str) -> str:
    """Give pictures a description, and tables the style of the site."""
    body = body.replace("![png](", "![Output of the cell above](")
    body = re.sub(r"<style scoped>.*?</style>\n?", "", body, flags=re.DOTALL)
    return body.replace('<table border="1" class="dataframe">', "<table>").replace(' style="text-align: right;"', "")


def _add_note(body: str, path: Path, execute: bool) -> str:
    """Add below the title how to run the notebook."""
    title, rest = body.strip().split("\n", 1)
    outputs = "" if execute else " This page was built without running it, so it has no outputs."
    note = f"*To run it yourself: `pip install jupyterlab`, then `jupyter lab notebooks/{path.name}`.{outputs}*"
    return f"{title}\n\n{note}\n{rest}\n"
