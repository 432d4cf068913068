"""Metrics of classification: slices with labels and cases of patients."""
