"""Generators and discriminators of image translation with neighbouring slices (2.5D)."""
