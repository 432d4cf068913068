"""Capture activations and attention of any module during its forward."""
