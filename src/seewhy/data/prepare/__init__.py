"""Cut volumes into the slice data sets that training reads."""

from seewhy.data.prepare.brats import prepare_brats
from seewhy.data.prepare.builder import Summary
from seewhy.data.prepare.lasc import prepare_lasc

__all__ = ["Summary", "prepare_brats", "prepare_lasc"]
