"""Explain any `nn.Module`: attribution maps, and scores that judge them.

Names are imported when they are first used, so `import seewhy.explain` loads neither PyTorch nor Captum. The stub
`__init__.pyi` lists the names for editors and type checkers. An explainer that is not listed is found by its class and
its `method`, which are read from the source, so a new explainer needs no entry.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import lazy_loader as lazy

from seewhy.errors import nearest

_import_listed, _, __all__ = lazy.attach_stub(__name__, __file__)
_EXPLAINER = re.compile(r'^class (\w+)\b(?:(?!^class ).*\n)*?    method(?:: str)? = "(\w+)"', re.MULTILINE)


@lru_cache
def list_explainers() -> dict[str, tuple[str, str]]:
    """Return method → module and class of the explainers of this package that state their method."""
    home, result = Path(__file__).parent, {}
    for path in sorted(home.rglob("*.py")):
        module = ".".join((__name__, *path.relative_to(home).with_suffix("").parts))
        for name, method in _EXPLAINER.findall(path.read_text(encoding="utf-8")):
            result[method] = module, name
    return result


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name in __all__:
        return _import_listed(name)
    modules = {kind: module for module, kind in list_explainers().values()}
    if name in modules:
        return vars(import_module(modules[name]))[name]
    raise AttributeError(f"seewhy.explain has no {name!r}; {nearest(name, [*__all__, *modules])}")


def __dir__() -> list[str]:
    """List the names of the stub, and the explainers that are found in the source."""
    return sorted({*__all__, *(name for _, name in list_explainers().values())})
