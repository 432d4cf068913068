"""Encoders of 2D images behind one interface."""
