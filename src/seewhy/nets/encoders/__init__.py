"""Encoders of 2D images by name, behind one interface (`seewhy.nets.encoders.base.Encoder`)."""

from __future__ import annotations

import inspect
from typing import Any

from seewhy.errors import ConfigError, nearest
from seewhy.nets.encoders.base import Encoder, Features
from seewhy.nets.encoders.cnn import CNN
from seewhy.nets.encoders.mit import MIT_VARIANTS, MiT

__all__ = ["Encoder", "Features", "build_encoder"]


def build_encoder(
    name: str,
    *,
    in_channels: int = 1,
    attention_blocks: int = 2,
    pre_softmax: bool = True,
    **options: Any,
) -> Encoder:
    """Build an encoder with random weights.

    Args:
        name: `cnn`, `mit_nano`, `mit_b0` … `mit_b5`, or any network of timm.
        in_channels: channels of the image.
        attention_blocks: number of last blocks that return their attention, if the network has attention.
        pre_softmax: whether attention is q·kᵀ, neither scaled nor normalised, instead of the softmax weights.
        options: further options of `CNN`, `MiT` or `TimmEncoder`.

    Raises:
        ConfigError: an unknown network, or an option that it does not take.

    Example:
        >>> import torch
        >>> from seewhy.nets.encoders import build_encoder
        >>> encoder = build_encoder("mit_nano")
        >>> features = encoder(torch.rand(1, 1, 64, 64), attention=True)
        >>> [tuple(x.shape) for x in features.maps]
        [(1, 16, 16, 16), (1, 32, 8, 8), (1, 64, 4, 4), (1, 128, 4, 4)]
        >>> [tuple(x.shape) for x in features.attention]
        [(1, 8, 16, 16), (1, 8, 16, 16)]
    """
    if name == "cnn":
        _check_options(name, CNN, options)
        return CNN(in_channels=in_channels, **options)
    if name in MIT_VARIANTS:
        _check_options(name, MiT, options)
        return MiT(name, in_channels=in_channels, attention_blocks=attention_blocks, pre_softmax=pre_softmax, **options)
    # The import of timm takes two seconds, so it is done only if needed.
    import timm

    from seewhy.nets.encoders.timm_encoder import TimmEncoder

    if not timm.is_model(name):
        raise ConfigError(f"unknown encoder {name!r}; {nearest(name, ['cnn', *MIT_VARIANTS, *timm.list_models()])}")
    return TimmEncoder(
        name, in_channels=in_channels, attention_blocks=attention_blocks, pre_softmax=pre_softmax, **options
    )


def _check_options(name: str, encoder: type[Encoder], options: dict[str, Any]) -> None:
    passed = {"self", "variant", "in_channels", "attention_blocks", "pre_softmax"}
    valid = [option for option in inspect.signature(encoder.__init__).parameters if option not in passed]
    wrong = [f"{option!r} ({nearest(option, valid)})" for option in options if option not in valid]
    if wrong:
        raise ConfigError(f"unknown options of encoder {name!r}: {', '.join(wrong)}")
