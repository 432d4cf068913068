"""Check a data set before a run: report everything that would stop it or make its results wrong."""

from seewhy.data.check.dataset import check_dataset
from seewhy.data.check.report import Finding, Report

__all__ = ["Finding", "Report", "check_dataset"]
