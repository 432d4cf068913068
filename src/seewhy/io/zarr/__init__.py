"""Volumes in zarr, NIfTI, NumPy and TIFF files, read in boxes and written in shards."""
