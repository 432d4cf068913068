"""Explain any `nn.Module`: attribution maps, and scores that judge them.

Names are imported when they are first used, so `import seewhy.explain` loads neither PyTorch nor Captum. The stub
`__init__.pyi` lists the names for editors and type checkers. An explainer that is not listed is found by the name of
its file (`MyCAM` in `cam/my_cam.py`), so a new explainer needs no entry.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import lazy_loader as lazy

from seewhy.errors import nearest

_import_listed, _, __all__ = lazy.attach_stub(__name__, __file__)
_HOME = Path(__file__).parent
_OTHER = ("base", "capture", "judging", "tokens")
"""Files and folders without explainers."""


def explainer_modules() -> dict[str, str]:
    """Return file name → full module name of the files of this package that may define an explainer."""
    files = [path for pattern in ("*.py", "*/*.py") for path in sorted(_HOME.glob(pattern))]
    parts = {path.stem: path.relative_to(_HOME).with_suffix("").parts for path in files if path.stem != "__init__"}
    return {name: ".".join((__name__, *steps)) for name, steps in parts.items() if not {*steps} & {*_OTHER}}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name in __all__:
        return _import_listed(name)
    modules = {file.replace("_", ""): module for file, module in explainer_modules().items()}
    if name[:1].isupper() and name.lower() in modules:
        return getattr(import_module(modules[name.lower()]), name)
    raise AttributeError(f"seewhy.explain has no {name!r}; {nearest(name, [*__all__, *modules])}")


def __dir__() -> list[str]:
    """List the names of the stub, and the explainers that are found by their file's name."""
    names = set(__all__)
    for file, module in explainer_modules().items():
        path = _HOME.joinpath(*module.split(".")[2:]).with_suffix(".py")
        classes = re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        names |= {name for name in classes if name.lower() == file.replace("_", "")}
    return sorted(names)
