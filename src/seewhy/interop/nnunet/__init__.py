"""Nnunet."""
