"""MONAI bundles: their configuration as data, and the networks that it names."""
