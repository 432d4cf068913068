"""Explanations of a finished run, and of networks from elsewhere."""
