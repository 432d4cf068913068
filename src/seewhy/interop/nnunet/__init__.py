"""Load models trained by nnU-Net v2."""
