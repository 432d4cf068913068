"""Judge attribution maps.

Does a map depend on what the model learned, does it show what the score depends on, and is it where the lesion is?
Only localization needs an annotation. Every score comes with the level of a reference that knows nothing: random pairs
of cases, random order, noise as smooth as the map, or the mask's share of the area.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
