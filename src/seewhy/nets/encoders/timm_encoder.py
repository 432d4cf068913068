"""Networks of timm as encoders: their maps, and the attention of their last blocks if available."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.nets.encoders.base import Encoder, Features, is_channels_last, pad_to_multiple
from seewhy.types import Attention, ImageBatch

__all__ = ["TimmEncoder", "record_attention"]

VIT_FILES = ("timm.models.vision_transformer", "timm.models.deit")
PVT_FILE = "timm.models.pvt_v2"
VIT_MAPS = 4
"""Number of evenly spaced blocks of a plain transformer, which has one scale, that return the maps."""
PVT_LEAST = 32
"""Pixels of one window of keys in PVT's first stage, the smallest possible image."""


class TimmEncoder(Encoder):
    """A timm network behind the encoder interface, with random weights.

    Three families: plain transformers (`vit_*`, `deit_*`: the tokens of four blocks as maps, without class and register
    tokens, at any image size), `pvt_v2_*` (four stages), and all other networks that timm builds with
    `features_only=True` (convolutional and windowed networks without attention between all tokens:
    `attention_heads` is 0 and `attention_blocks` has no effect).

    If the image size is not divisible by the coarsest stride, the last row and column are repeated; maps are cropped
    back to ceil(size / stride).

    Args:
        name: a timm model name, as in `timm.list_models()`.
        in_channels: channels of the image.
        attention_blocks: number of last blocks that return their attention; 0 for none.
        pre_softmax: whether attention is q·kᵀ, neither scaled nor normalised, instead of the softmax weights. Rows of
            softmax weights of a transformer with a class token sum to slightly less than 1, since it is dropped.
        output_stride: coarsest stride; finer maps cost time and memory, and localise better. None is 16 for `pvt_v2_*`
            (as AFA's method needs of a pyramid) and the stride of the network for the others.
        options: passed to `timm.create_model`, e.g. `drop_path_rate`, `out_indices`.

    Raises:
        ConfigError: timm does not build the combination.

    Example:
        >>> import torch
        >>> from seewhy.nets.encoders.timm_encoder import TimmEncoder
        >>> encoder = TimmEncoder("test_vit", in_channels=1)
        >>> features = encoder(torch.rand(1, 1, 64, 64), attention=True)
        >>> features.maps[-1].shape[-2:], features.attention[-1].shape[-2:]
        (torch.Size([4, 4]), torch.Size([16, 16]))
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int = 1,
        attention_blocks: int = 2,
        pre_softmax: bool = True,
        output_stride: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.name = name
        self.in_channels = in_channels
        self.pre_softmax = pre_softmax
        self.least = 1
        file = timm.model_entrypoint(name.split(".")[0]).__module__
        options = {"in_chans": in_channels, **options}
        if file in VIT_FILES:
            self._build_vit(options, output_stride)
        elif file == PVT_FILE:
            self._build_pvt(options, output_stride)
        else:
            self._build_features(options, output_stride)
        layers = _find_attention_layers(self.net)
        if layers and not 0 <= attention_blocks <= len(layers):
            raise ConfigError(
                f"attention_blocks={attention_blocks}: {name} has {len(layers)} blocks with attention between all "
                f"tokens of its last map; choose 0 to {len(layers)}"
            )
        self.attention_blocks = min(attention_blocks, len(layers))
        self.attention_heads = sum(int(layer.num_heads) for layer in self._last_layers())

    def forward(self, image: ImageBatch, attention: bool = False) -> Features:
        """Encode `image` [B, C, H, W]; `attention` also returns the attention of the last blocks."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, max(self.strides), least=self.least)
        prefix = int(getattr(self.net, "num_prefix_tokens", 0))
        layers = self._last_layers() if attention else []
        with record_attention(layers, pre_softmax=self.pre_softmax, prefix=prefix) as attention_maps:
            maps = self._compute_maps(padded)
        size = -(-height // self.strides[-1]), -(-width // self.strides[-1])
        grid = padded.shape[-2] // self.strides[-1], padded.shape[-1] // self.strides[-1]
        return Features(
            maps=[
                x[..., : -(-height // stride), : -(-width // stride)]
                for x, stride in zip(maps, self.strides, strict=True)
            ],
            attention=[_crop_tokens(weights, grid, size) for weights in attention_maps],
        )

    def attention_layers(self) -> list[nn.Module]:
        """See `Encoder.attention_layers`; all blocks of a plain transformer, the last stage of `pvt_v2_*`."""
        return _find_attention_layers(self.net)

    def _compute_maps(self, image: ImageBatch) -> list[Tensor]:
        if isinstance(self.net, VisionTransformer):
            return self.net.forward_intermediates(image, indices=self.indices, norm=True, intermediates_only=True)
        if isinstance(self.net, PyramidVisionTransformerV2):
            return self.net.forward_intermediates(image, intermediates_only=True)
        maps = self.net(image)
        if self.channels_last:
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        return list(maps)

    def _last_layers(self) -> list[Any]:
        layers = _find_attention_layers(self.net)
        return layers[len(layers) - self.attention_blocks :]

    def _create(self, options: dict[str, Any]) -> Any:
        try:
            return timm.create_model(self.name, pretrained=False, **options)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            shown = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise ConfigError(f"timm does not build {self.name!r} with {shown}: {error}") from error

    def _build_vit(self, options: dict[str, Any], output_stride: int | None) -> None:
        self.net = self._create({"num_classes": 0, "dynamic_img_size": True, **options})
        patch = int(self.net.patch_embed.patch_size[0])
        if output_stride not in (None, patch):
            raise ConfigError(
                f"output_stride={output_stride}: the maps of {self.name} have the stride of its patches, {patch}"
            )
        # Layers after the tokens would have parameters without gradients, which is an error in DDP.
        self.net.prune_intermediate_layers(len(self.net.blocks), prune_norm=False, prune_head=True)
        depth = len(self.net.blocks)
        count = min(VIT_MAPS, depth)
        self.indices = [depth * number // count - 1 for number in range(1, count + 1)]
        self.channels = [int(self.net.embed_dim)] * count
        self.strides = [patch] * count

    def _build_pvt(self, options: dict[str, Any], output_stride: int | None) -> None:
        self.net = self._create({"num_classes": 0, **options})
        self.least = PVT_LEAST
        coarsest = 16 if output_stride is None else output_stride
        if coarsest not in (4, 8, 16, 32):
            raise ConfigError(f"output_stride={output_stride}: choose 4, 8, 16 or 32 for {self.name}")
        self.channels = [int(info["num_chs"]) for info in self.net.feature_info]
        self.strides = [min(int(info["reduction"]), coarsest) for info in self.net.feature_info]
        for stage, info in zip(self.net.stages, self.net.feature_info, strict=True):
            if int(info["reduction"]) > coarsest:
                stage.downsample.proj.stride = (1, 1)

    def _build_features(self, options: dict[str, Any], output_stride: int | None) -> None:
        stride = {} if output_stride is None else {"output_stride": output_stride}
        self.net = self._create({"features_only": True, **stride, **options})
        self.channels = list(self.net.feature_info.channels())
        self.strides = list(self.net.feature_info.reduction())
        self.channels_last = is_channels_last(self.net)


def _find_attention_layers(net: nn.Module) -> list[Any]:
    """Return layers with attention between all tokens of the network's last map, first to last."""
    layers: list[Any] = []
    if isinstance(net, VisionTransformer):
        layers = [getattr(block, "attn", None) for block in net.blocks]
        return layers if all(hasattr(layer, "q_norm") for layer in layers) else []
    if isinstance(net, PyramidVisionTransformerV2):
        layers = [block.attn for block in net.stages[-1].blocks]
    # Reduced keys (linear attention) are not tokens of the map.
    return layers if all(layer.sr is None for layer in layers) else []


@contextmanager
def record_attention(layers: Sequence[Any], *, pre_softmax: bool, prefix: int = 0) -> Iterator[list[Attention]]:
    """Collect the attention of timm layers while they run.

    Hooks read queries and keys and multiply them, so that the layers are unchanged and keep their fused kernel; the
    hooks are removed afterwards, also after an error.

    Args:
        layers: attention layers of a `VisionTransformer` or `PyramidVisionTransformerV2`.
        pre_softmax: whether to collect q·kᵀ instead of the softmax weights.
        prefix: number of leading tokens (class, registers) to drop.

    Yields:
        A list that is filled with [B, heads, N, N] float32 per layer, in the order in which they run.
    """
    collected: list[Attention] = []
    handles = []
    try:
        for layer in layers:
            query, key = (layer.q_norm, layer.k_norm) if hasattr(layer, "q_norm") else (layer.q, layer.kv)
            capture = _Capture(layer, collected, pre_softmax=pre_softmax, prefix=prefix)
            handles.append(query.register_forward_hook(capture.query))
            handles.append(key.register_forward_hook(capture.key))
        yield collected
    finally:
        for handle in handles:
            handle.remove()


class _Capture:
    """Store the query of a layer until its key is computed (timm computes them in this order)."""

    def __init__(self, layer: Any, collected: list[Attention], *, pre_softmax: bool, prefix: int) -> None:
        self.layer = layer
        self.collected = collected
        self.pre_softmax = pre_softmax
        self.prefix = prefix
        self.queries: Tensor

    def query(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.queries = self._split_heads(output)

    def key(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # PVT's `kv` has keys in the first half of its channels and values in the second.
        keys = self._split_heads(output if output.dim() == 4 else output.chunk(2, dim=-1)[0])
        with torch.autocast(output.device.type, enabled=False):
            weights = self.queries.float() @ keys.float().transpose(-2, -1)
            if not self.pre_softmax:
                weights = (weights * float(self.layer.scale)).softmax(dim=-1)
            self.collected.append(weights[..., self.prefix :, self.prefix :])
        del self.queries

    def _split_heads(self, x: Tensor) -> Tensor:
        return x if x.dim() == 4 else x.unflatten(-1, (int(self.layer.num_heads), -1)).transpose(1, 2)


def _crop_tokens(weights: Attention, grid: tuple[int, int], size: tuple[int, int]) -> Attention:
    """Keep the queries and keys of the first `size` rows and columns of the grid of tokens."""
    if grid == size:
        return weights
    kept = weights.unflatten(3, grid)[..., : size[0], : size[1]].flatten(3)
    return kept.unflatten(2, grid)[:, :, : size[0], : size[1]].flatten(2, 3)
