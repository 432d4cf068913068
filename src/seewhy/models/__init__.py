"""LightningModules, one folder per kind of task, and the protocols that they implement."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
