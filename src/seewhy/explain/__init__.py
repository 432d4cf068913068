"""Why a network scores an image as it does: maps from any module, and the scores that judge maps.

`from seewhy.explain import GradCAM` imports the file of that class and nothing else: a class is found by its
file's name (`GradCAM` in `grad_cam.py`), so a new explainer needs no entry here.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from seewhy.errors import nearest

_CONTRACT = {
    "Attribution": "base",
    "Explainable": "subject",
    "Explainer": "base",
    "Maps": "maps",
    "Subject": "subject",
}


def __getattr__(name: str) -> Any:
    """Import a class when it is asked for."""
    files = {module.name.replace("_", ""): module.name for module in iter_modules(__path__)}
    file = _CONTRACT.get(name) or (files.get(name.lower()) if name[:1].isupper() else None)
    if file is None:
        classes = {*_CONTRACT, *files}
        raise AttributeError(f"seewhy.explain has no {name!r}; {nearest(name.lower(), classes)}")
    return getattr(import_module(f"{__name__}.{file}"), name)
