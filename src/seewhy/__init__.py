"""Train on medical images, predict with what was trained, and see why it predicts what it does."""

__version__ = "0.1.0"
