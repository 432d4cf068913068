"""Explanations of the samples of any loader."""
