"""Scripts of a MONAI bundle: windows, checks, tables and a loop over cases that MONAI itself has not."""
