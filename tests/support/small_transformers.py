"""Transformers small enough for a test, with attention as varied as after a training."""

import timm
import torch


def seeded(net, scale=2.0):
    """A network whose scores and attention vary, as those of a trained one do."""
    torch.manual_seed(5)
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=scale * parameter[0].numel() ** -0.5)
        elif "bias" in name:
            parameter.data.normal_(std=0.1)
    return net.eval()


def vit(**options):
    """A vision transformer of timm for images [B, 3, 32, 48]."""
    name = options.pop("name", "vit_tiny_patch16_224")
    options = {"img_size": (32, 48), "depth": 3, "embed_dim": 24, "num_heads": 3, "num_classes": 4, **options}
    return seeded(timm.create_model(name, **options))
