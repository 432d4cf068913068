"""Volumes cut into the slice data sets that training reads."""

from seewhy.data.prepare.brats import prepare_brats
from seewhy.data.prepare.lasc import prepare_lasc
from seewhy.data.prepare.summary import Summary

__all__ = ["Summary", "prepare_brats", "prepare_lasc"]
