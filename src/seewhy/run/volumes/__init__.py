"""Prediction and explanation of volumes of any size."""
