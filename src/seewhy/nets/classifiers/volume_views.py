"""Three ways to see a volume [B, 1, D, H, W]: its slices as channels, one by one, or as the volume it is.

One vector for a volume from those of its slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.nets.classifiers.planar_features import PlanarFeatures
from seewhy.nets.classifiers.spatial_features import SpatialFeatures

__all__ = ["ChannelView", "GatedAttentionPooling", "SliceView", "VolumeView", "build_view"]


class GatedAttentionPooling(nn.Module):
    """Weighted mean of slices, with weights learned from the slices (Ilse 2018, arXiv 1802.04712, eq. 7 and 9).

    The weight of slice d is softmax over slices of w · (tanh(V h_d) ⊙ sigmoid(U h_d)); the order of slices does
    not matter, and neither does their number.

    Args:
        channels: length of a slice's vector.
        hidden: rows of V and U.
    """

    def __init__(self, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.value = nn.Linear(channels, hidden)
        self.gate = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1)

    def weights(self, slices: Tensor) -> Tensor:
        """Weights [B, D], each row summing to 1, of slices [B, D, channels]."""
        gated = torch.tanh(self.value(slices)) * torch.sigmoid(self.gate(slices))
        return self.score(gated)[..., 0].float().softmax(dim=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Vectors [B, channels] of slices [B, D, channels]."""
        return torch.einsum("bd,bdc->bc", self.weights(slices).to(slices), slices)


class ChannelView(nn.Module):
    """All slices at once, as the channels of one image: the cheapest view, with one feature map for all slices.

    The first convolution sees every slice at its own number, so a volume must have exactly `depth` slices, in
    the same place of the head in every scan.

    Args:
        backbone: `name` and options of `seewhy.nets.classifiers.planar_features.PlanarFeatures`.
        depth: slices of a volume.
        outputs: class scores.
        dropout: before the last layer.

    Attributes:
        encoder: gives the last feature map, [B, C, h, w].
    """

    def __init__(self, backbone: Mapping[str, Any], *, depth: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.depth = depth
        self.encoder = PlanarFeatures(**backbone, in_channels=depth)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.channels, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Class scores [B, outputs] of volumes [B, 1, depth, H, W]."""
        _check(volume)
        if volume.shape[2] != self.depth:
            raise ConfigError(
                f"a volume has {volume.shape[2]} slices, but view=channels was built for {self.depth}; "
                "cut all scans to the same slices (data.slices), and give the model their number"
            )
        features = self.encoder(volume[:, 0])
        return self.head(self.dropout(features.mean(dim=(2, 3))))


class SliceView(nn.Module):
    """Each slice through one 2D network, then pooled with learned weights that say which slices counted.

    Any number of slices is taken. Without gradients `chunk` slices run at a time, so that memory does not grow
    with the number of slices; the scores are the same, since slices meet in the pooling only.

    Args:
        backbone: `name` and options of `seewhy.nets.classifiers.planar_features.PlanarFeatures`.
        outputs: class scores.
        dropout: before the last layer.
        hidden: width of the attention, see `GatedAttentionPooling`.
        chunk: slices at a time where no gradients are wanted.

    Attributes:
        encoder: gives the last feature maps, [B · D, C, h, w], slices of one volume side by side.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        *,
        outputs: int,
        dropout: float = 0.0,
        hidden: int = 128,
        chunk: int = 32,
    ) -> None:
        super().__init__()
        if chunk < 1:
            raise ConfigError(f"chunk_size={chunk}: at least one slice must run at a time")
        self.chunk = chunk
        self.encoder = PlanarFeatures(**backbone, in_channels=1)
        self.pooling = GatedAttentionPooling(self.encoder.channels, hidden=hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.channels, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Class scores [B, outputs] of volumes [B, 1, D, H, W]."""
        return self.head(self.dropout(self.pooling(self._slices(volume))))

    def slice_weights(self, volume: Tensor) -> Tensor:
        """What each slice of volumes [B, 1, D, H, W] weighs in the pooling: [B, D] float32, rows sum to 1."""
        return self.pooling.weights(self._slices(volume))

    def _slices(self, volume: Tensor) -> Tensor:
        """Vectors [B, D, C] of all slices."""
        _check(volume)
        images = volume[:, 0].flatten(0, 1)[:, None]
        # In training, batch statistics must come from all slices; and whoever hooks the encoder (an explainer)
        # must see one call with all slices.
        whole = torch.is_grad_enabled() or self.training or self.encoder._forward_hooks
        parts = [images] if whole else images.split(self.chunk)
        return torch.cat([self.encoder(part).mean(dim=(2, 3)) for part in parts]).unflatten(0, (*volume.shape[:1], -1))


class VolumeView(nn.Module):
    """The volume through a 3D network: needs no fixed number of slices, and its feature map has a depth.

    Args:
        backbone: `name` and options of `seewhy.nets.classifiers.spatial_features.SpatialFeatures`.
        outputs: class scores.
        dropout: before the last layer.

    Attributes:
        encoder: gives the last feature map, [B, C, d, h, w].
    """

    def __init__(self, backbone: Mapping[str, Any], *, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = SpatialFeatures(**backbone, in_channels=1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.channels, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Class scores [B, outputs] of volumes [B, 1, D, H, W]."""
        _check(volume)
        return self.head(self.dropout(self.encoder(volume).mean(dim=(2, 3, 4))))


def build_view(
    view: str,
    backbone: Mapping[str, Any],
    *,
    outputs: int,
    dropout: float = 0.0,
    depth: int | None = None,
    hidden: int = 128,
    chunk: int = 32,
) -> ChannelView | SliceView | VolumeView:
    """Build one of the three views.

    Args:
        view: `channels`, `slices` or `volume`.
        backbone: `name` and options of the network, of timm or torchvision for the first two, else of MONAI.
        outputs: class scores.
        dropout: before the last layer.
        depth: slices of a volume; `channels` needs it.
        hidden: width of the attention of `slices`.
        chunk: slices at a time of `slices`, where no gradients are wanted.

    Raises:
        ConfigError: no such view or network, or `channels` without a depth.
    """
    builders: dict[str, Callable[[], ChannelView | SliceView | VolumeView]] = {
        "channels": lambda: ChannelView(backbone, depth=int(depth or 0), outputs=outputs, dropout=dropout),
        "slices": lambda: SliceView(backbone, outputs=outputs, dropout=dropout, hidden=hidden, chunk=chunk),
        "volume": lambda: VolumeView(backbone, outputs=outputs, dropout=dropout),
    }
    if view not in builders:
        raise ConfigError(f"model.view={view!r} is unknown; {nearest(view, builders)}")
    if view == "channels" and not depth:
        raise ConfigError(
            "model.view=channels makes every slice a channel, so their number must be known: "
            "give data.slices=[first, last + 1] or data.depth, or choose view=slices or view=volume"
        )
    return builders[view]()


def _check(volume: Tensor) -> None:
    if volume.ndim != 5 or volume.shape[1] != 1:
        raise ConfigError(f"expected volumes [B, 1, D, H, W], got {tuple(volume.shape)}")
