"""Plain `nn.Module` classes and tensor functions, without Lightning, files or configuration."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
