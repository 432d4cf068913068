"""Train on medical images, predict with what was trained, and see why it predicts what it does."""

import lazy_loader as lazy

__version__ = "0.2.0"

_import_listed, _, _listed = lazy.attach_stub(__name__, __file__)
__all__ = [*_listed, "__version__"]


def __getattr__(name: str) -> object:
    """Import a name when it is first used."""
    return _import_listed(name)


def __dir__() -> list[str]:
    """List the names of the stub."""
    return sorted(__all__)
