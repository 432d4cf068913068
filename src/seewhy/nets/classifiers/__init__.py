"""Classifiers of several images or of volumes, with a feature map for each input."""
