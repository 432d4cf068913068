"""Volumes larger than memory: predicted in one pass with flat memory, resumable, the same bytes however split."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
