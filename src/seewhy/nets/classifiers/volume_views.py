"""Classifiers of volumes [B, 1, D, H, W]: slices as channels, each slice by a 2D network, or a 3D network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.nets.classifiers.backbones import PlanarFeatures, SpatialFeatures
from seewhy.options import check_choice

__all__ = ["ChannelView", "GatedAttentionPooling", "SliceView", "VolumeView", "build_view"]


class GatedAttentionPooling(nn.Module):
    """Weighted mean of slices, with weights learned from the slices (Ilse 2018, arXiv 1802.04712, eq. 7 and 9).

    The weight of slice d is the softmax over slices of w · (tanh(V h_d) ⊙ sigmoid(U h_d)); slices may have any order
    and number.

    Args:
        channels: length of a slice's vector.
        hidden: rows of V and U.

    Example:
        >>> import torch
        >>> from seewhy.nets.classifiers.volume_views import GatedAttentionPooling
        >>> pooling, slices = GatedAttentionPooling(4), torch.rand(2, 5, 4)
        >>> pooling(slices).shape, pooling.weights(slices).sum(dim=1).round().tolist()
        (torch.Size([2, 4]), [1.0, 1.0])
    """

    def __init__(self, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.value = nn.Linear(channels, hidden)
        self.gate = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1)

    def weights(self, slices: Tensor) -> Tensor:
        """Compute weights [B, D], each row summing to 1, of slices [B, D, channels]."""
        gated = torch.tanh(self.value(slices)) * torch.sigmoid(self.gate(slices))
        return self.score(gated)[..., 0].float().softmax(dim=1)

    def forward(self, slices: Tensor) -> Tensor:
        """Pool slices [B, D, channels] to vectors [B, channels]."""
        return torch.einsum("bd,bdc->bc", self.weights(slices).to(slices), slices)


class ChannelView(nn.Module):
    """All slices at once as the channels of one image: the cheapest view, with one feature map for all slices.

    The first convolution has weights for every slice number, so a volume must have exactly `depth` slices, at the same
    positions of the head in every scan.

    Args:
        backbone: `name` and options of `seewhy.nets.classifiers.backbones.PlanarFeatures`.
        depth: slices of a volume.
        outputs: number of class scores.
        dropout: dropout before the last layer.

    Attributes:
        encoder: returns the last feature map, [B, C, h, w].
    """

    def __init__(self, backbone: Mapping[str, Any], *, depth: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.depth = depth
        self.encoder = PlanarFeatures(**backbone, in_channels=depth)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.channels, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Compute class scores [B, outputs] of volumes [B, 1, depth, H, W]."""
        _check(volume)
        if volume.shape[2] != self.depth:
            raise ConfigError(
                f"a volume has {volume.shape[2]} slices, but view=channels was built for {self.depth}; "
                "cut all scans to the same slices (data.slices), and give the model their number"
            )
        features = self.encoder(volume[:, 0])
        return self.head(self.dropout(features.mean(dim=(2, 3))))


class SliceView(nn.Module):
    """Each slice by one 2D network, then pooled with learned weights that show which slices matter.

    Any number of slices is allowed. Without gradients, `chunk` slices run at a time, so that memory does not grow with
    the number of slices; the scores are the same, since slices are combined in the pooling only.

    Args:
        backbone: `name` and options of `seewhy.nets.classifiers.backbones.PlanarFeatures`.
        outputs: number of class scores.
        dropout: dropout before the last layer.
        hidden: width of the attention, see `GatedAttentionPooling`.
        chunk: slices at a time without gradients.

    Attributes:
        encoder: returns the last feature maps, [B · D, C, h, w], the slices of a volume one after another.
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
            raise ConfigError(f"chunk_size={chunk}; expected at least 1 slice")
        self.chunk = chunk
        self.encoder = PlanarFeatures(**backbone, in_channels=1)
        self.pooling = GatedAttentionPooling(self.encoder.channels, hidden=hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.channels, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Compute class scores [B, outputs] of volumes [B, 1, D, H, W]."""
        return self.head(self.dropout(self.pooling(self._encode_slices(volume))))

    def slice_weights(self, volume: Tensor) -> Tensor:
        """Compute the weight of each slice of volumes [B, 1, D, H, W] in the pooling: [B, D] float32, rows sum to 1."""
        return self.pooling.weights(self._encode_slices(volume))

    def _encode_slices(self, volume: Tensor) -> Tensor:
        """Compute vectors [B, D, C] of all slices."""
        _check(volume)
        images = volume[:, 0].flatten(0, 1)[:, None]
        # In training, batch statistics must come from all slices; and a hook on the encoder (of an explainer) must get
        # one call with all slices.
        whole = torch.is_grad_enabled() or self.training or self.encoder._forward_hooks
        parts = [images] if whole else images.split(self.chunk)
        return torch.cat([self.encoder(part).mean(dim=(2, 3)) for part in parts]).unflatten(0, (*volume.shape[:1], -1))


class VolumeView(nn.Module):
    """The volume by a 3D network: any number of slices, and a feature map with depth.

    Args:
        backbone: `name` and options of `seewhy.nets.classifiers.backbones.SpatialFeatures`.
        outputs: number of class scores.
        dropout: dropout before the last layer.

    Attributes:
        encoder: returns the last feature map, [B, C, d, h, w].
    """

    def __init__(self, backbone: Mapping[str, Any], *, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = SpatialFeatures(**backbone, in_channels=1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.channels, outputs)

    def forward(self, volume: Tensor) -> Tensor:
        """Compute class scores [B, outputs] of volumes [B, 1, D, H, W]."""
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
        outputs: number of class scores.
        dropout: dropout before the last layer.
        depth: slices of a volume, required by `channels`.
        hidden: width of the attention of `slices`.
        chunk: slices at a time of `slices`, without gradients.

    Raises:
        ConfigError: an unknown view or network, or `channels` without a depth.

    Example:
        >>> import torch
        >>> from seewhy.nets.classifiers.volume_views import build_view
        >>> net = build_view("slices", {"name": "test_efficientnet"}, outputs=2).eval()
        >>> net(torch.rand(1, 1, 3, 32, 32)).shape, net.slice_weights(torch.rand(1, 1, 3, 32, 32)).shape
        (torch.Size([1, 2]), torch.Size([1, 3]))
    """
    builders: dict[str, Callable[[], ChannelView | SliceView | VolumeView]] = {
        "channels": lambda: ChannelView(backbone, depth=int(depth or 0), outputs=outputs, dropout=dropout),
        "slices": lambda: SliceView(backbone, outputs=outputs, dropout=dropout, hidden=hidden, chunk=chunk),
        "volume": lambda: VolumeView(backbone, outputs=outputs, dropout=dropout),
    }
    check_choice(view, builders, "model.view")
    if view == "channels" and not depth:
        raise ConfigError(
            "model.view=channels makes every slice a channel and needs their number: "
            "set data.slices=[first, last + 1] or data.depth, or use view=slices or view=volume"
        )
    return builders[view]()


def _check(volume: Tensor) -> None:
    if volume.ndim != 5 or volume.shape[1] != 1:
        raise ConfigError(f"expected volumes [B, 1, D, H, W], got {tuple(volume.shape)}")
