"""Explanations of any `nn.Module`: attribution maps, and the scores that judge them.

`from seewhy.explain import GradCAM` imports the file of that class and nothing else: a class is found by its
file's name (`GradCAM` in `cam/grad_cam.py`), so a new explainer needs no entry here.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from seewhy.errors import nearest

_CONTRACT = {
    "Attribution": "base",
    "Explainable": "explained_model",
    "ExplainedModel": "explained_model",
    "Explainer": "base",
    "Maps": "maps",
}


def explainer_modules() -> dict[str, str]:
    """File name → full module name of every file here and in the folders of this package."""
    home = Path(__file__).parent
    folders = [home, *(path.parent for path in sorted(home.glob("*/__init__.py")))]
    return {
        module.name: ".".join((__name__, *folder.relative_to(home).parts, module.name))
        for folder in folders
        for module in iter_modules([str(folder)])
        if not module.ispkg and module.name != "base"
    }


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for."""
    files = {file.replace("_", ""): module for file, module in explainer_modules().items()}
    module = (
        f"{__name__}.{_CONTRACT[name]}" if name in _CONTRACT else files.get(name.lower() if name[:1].isupper() else "")
    )
    if module is None:
        raise AttributeError(f"seewhy.explain has no {name!r}; {nearest(name.lower(), {*_CONTRACT, *files})}")
    return getattr(import_module(module), name)
