"""Write one page per public package: every name that its `__init__.pyi` lists, for mkdocstrings to describe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PACKAGES", "page_of", "write_pages"]

SOURCE = Path(__file__).resolve().parents[2] / "src"
PACKAGES = {
    "seewhy": "Load a run, predict and explain files, arrays and loaders. See [From Python](../../python.md).",
    "seewhy.explain": "Explainers for any `nn.Module`. See [Explaining](../../explaining.md#any-nnmodule).",
    "seewhy.explain.judging": "Scores that tell whether a map can be trusted.",
    "seewhy.models": "LightningModules: one per system.",
    "seewhy.data": "DataModules, splits and data checks.",
    "seewhy.nets": "Networks as plain `nn.Module`s.",
    "seewhy.losses": "Losses.",
    "seewhy.metrics": "Scores by patient, floors and intervals.",
    "seewhy.volumes": "Prediction of volumes larger than memory.",
    "seewhy.io": "Files: NPY, NIfTI, NRRD, images, zarr.",
    "seewhy.phantoms": "Synthetic data in the real formats.",
    "seewhy.batch": "Keys of a batch, a prediction and of maps, with shapes and units.",
}
"""Package, or module without a list of names → introduction of its page."""
OPTIONS = "    options:\n      heading: {name}\n      toc_label: {name}\n      heading_level: 2\n"


def page_of(package: str) -> str:
    """Path of the page of a package, relative to `docs/`."""
    return f"reference/api/{package}.md"


def write_pages() -> dict[str, str]:
    """Path of each page relative to `docs/` → its Markdown."""
    return {page_of(package): "\n".join(_page(package, about)) for package, about in PACKAGES.items()}


def list_names(package: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the home module of what a package lists, sub-packages and data left out."""
    stub = SOURCE.joinpath(*package.split("."), "__init__.pyi")
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                yield alias.name, f"{package}.{node.module}"
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, package


def _page(package: str, about: str) -> Iterator[str]:
    yield f"# {package}\n"
    yield f"{about}\n"
    if not _has_stub(package):
        yield f"::: {package}\n    options:\n      show_root_heading: false\n      heading_level: 2\n"
        return
    names = dict(sorted(list_names(package), key=lambda entry: entry[0].lower()))
    shown = {name: home for name, home in names.items() if _find_other_page(package, name) is None}
    yield f"```python\nfrom {package} import {next(iter(shown))}\n```\n"
    for name, home in shown.items():
        yield f"::: {home}.{name}\n{OPTIONS.format(name=name)}"
    others = {name: other for name in names if (other := _find_other_page(package, name)) is not None}
    if others:
        yield "## Also here\n"
        yield f"The same names as in a package below `{package}`:\n"
        for name, other in others.items():
            yield f"- [`{name}`]({other}.md#{names[name]}.{name})"


def _find_other_page(package: str, name: str) -> str | None:
    """The package below this one whose page shows the same name."""
    below = [
        other for other in PACKAGES if other.startswith(f"{package}.") and package != "seewhy" and _has_stub(other)
    ]
    return next((other for other in below if name in dict(list_names(other))), None)


def _has_stub(package: str) -> bool:
    return SOURCE.joinpath(*package.split("."), "__init__.pyi").is_file()
