"""Two domains of multi-modal subjects: found, prepared once, read slice by slice from memory maps."""
