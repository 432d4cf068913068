"""A data set looked over before a run: everything that would stop it, or make its figures worthless."""

from seewhy.data.check.dataset import check_dataset
from seewhy.data.check.report import Finding, Report

__all__ = ["Finding", "Report", "check_dataset"]
