"""Unpaired data of two domains: find and prepare multi-modal subjects, and read their slices from memory maps."""
