"""Weights of large networks that take no memory."""

import torch


def spread_zeros(state):
    """Tensors of the shapes and dtypes of a state dict, each one zero spread over its shape."""
    return {
        name: torch.zeros((), dtype=tensor.dtype, device="cpu").expand(tensor.shape) for name, tensor in state.items()
    }
