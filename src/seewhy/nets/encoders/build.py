"""Encoders by name, all behind one interface (`seewhy.nets.encoders.base.Encoder`)."""

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
    """Build an encoder with random weights; nothing is ever downloaded (see `interop.encoder_weights`).

    Args:
        name: `cnn`, `mit_nano`, `mit_b0` … `mit_b5`, or any network timm knows.
        in_channels: channels of the image.
        attention_blocks: how many of the last blocks return their attention, where there is attention.
        pre_softmax: attention as q·kᵀ, neither scaled nor normalised, instead of the softmax weights.
        options: further options of the encoder: those of `CNN`, `MiT` or `TimmEncoder`.

    Raises:
        ConfigError: no such network, or an option it does not have or cannot take.
    """
    if name == "cnn":
        _check_options(name, CNN, options)
        return CNN(in_channels=in_channels, **options)
    if name in MIT_VARIANTS:
        _check_options(name, MiT, options)
        return MiT(name, in_channels=in_channels, attention_blocks=attention_blocks, pre_softmax=pre_softmax, **options)
    # timm takes two seconds to import, so only runs that use it pay for it.
    import timm

    from seewhy.nets.encoders.timm_encoder import TimmEncoder

    if not timm.is_model(name):
        known = ["cnn", *MIT_VARIANTS, *timm.list_models()]
        raise ConfigError(f"encoder {name!r} does not exist; {nearest(name, known)}")
    return TimmEncoder(
        name, in_channels=in_channels, attention_blocks=attention_blocks, pre_softmax=pre_softmax, **options
    )


def _check_options(name: str, encoder: type[Encoder], options: dict[str, Any]) -> None:
    given_here = {"self", "variant", "in_channels", "attention_blocks", "pre_softmax"}
    valid = [option for option in inspect.signature(encoder.__init__).parameters if option not in given_here]
    wrong = [f"{option!r} ({nearest(option, valid)})" for option in options if option not in valid]
    if wrong:
        raise ConfigError(f"encoder {name!r} has no option {', '.join(wrong)}")
