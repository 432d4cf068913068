"""Experiment trackers: W&B, TensorBoard, MLflow and CSV, and what a run, its results and its files are to them."""
