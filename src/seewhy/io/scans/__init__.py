"""Scans in one file with a grid in space: NIfTI, NRRD and MetaImage."""
