"""Checks of files while they are read: sizes, formats, damage, labels."""
