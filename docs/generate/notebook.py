"""Show a notebook as a page: its text and its code. Outputs are not in the repository, so none are shown."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["list_notebooks", "page_of", "write_page"]

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def list_notebooks() -> list[Path]:
    """Notebooks of the repository, sorted by name."""
    return sorted(FOLDER.glob("*.ipynb"))


def page_of(path: Path) -> str:
    """Path of the page of a notebook, relative to `docs/`."""
    return f"notebooks/{path.stem}.md"


def write_page(path: Path) -> str:
    """The Markdown of a notebook's page."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"]).strip()
        if text:
            parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    title, *others = parts
    note = f"*To run it: `pip install jupyterlab`, then `jupyter lab notebooks/{path.name}`.*"
    return "\n\n".join([title, note, *others]) + "\n"
