"""Any network of timm as an encoder: its maps, and the attention of its last blocks where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import timm
import torch
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.nets.encoders.base import Encoder, Features, pad_to_multiple
from seewhy.types import Attention, ImageBatch

__all__ = ["TimmEncoder", "record_attention"]

VIT_FILES = ("timm.models.vision_transformer", "timm.models.deit")
PVT_FILE = "timm.models.pvt_v2"
VIT_MAPS = 4
"""A plain transformer has one scale; this many of its blocks, evenly spaced, give the maps."""
PVT_LEAST = 32
"""Pixels of one window of keys in PVT's first stage; a smaller image would have none."""


class TimmEncoder(Encoder):
    """A timm network behind the encoder interface, with random weights.

    Three families: plain transformers (`vit_*`, `deit_*`: the tokens of four blocks, laid out as maps, class and
    register tokens dropped, at any image size), `pvt_v2_*` (four stages), and whatever else timm builds with
    `features_only=True` (convolutional and windowed networks: no attention between all tokens, so
    `attention_heads` is 0 and `attention_blocks` has no effect).

    An image whose size does not divide by the coarsest stride has its last row and column repeated until it
    does; maps are cropped back to ceil(size / stride).

    Args:
        name: a timm model name, as in `timm.list_models()`.
        in_channels: channels of the image.
        attention_blocks: how many of the last blocks return their attention; 0 for none.
        pre_softmax: return q·kᵀ as it is, neither scaled nor normalised; else the softmax weights. Dropped
            tokens take their share along: rows of softmax weights of a transformer with a class token sum to
            a little less than 1.
        output_stride: coarsest stride; finer maps cost time and memory, and localise better. None is 16 for
            `pvt_v2_*` (which AFA's method wants of a pyramid) and the network's own for the others.
        options: passed to `timm.create_model`, e.g. `drop_path_rate`, `out_indices`.

    Raises:
        ConfigError: timm refuses the combination.
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
        layers = _attention_layers(self.net)
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
        with record_attention(layers, pre_softmax=self.pre_softmax, prefix=prefix) as taken:
            maps = self._maps(padded)
        size = -(-height // self.strides[-1]), -(-width // self.strides[-1])
        grid = padded.shape[-2] // self.strides[-1], padded.shape[-1] // self.strides[-1]
        return Features(
            maps=[
                x[..., : -(-height // stride), : -(-width // stride)]
                for x, stride in zip(maps, self.strides, strict=True)
            ],
            attention=[_cropped_tokens(weights, grid, size) for weights in taken],
        )

    def attention_layers(self) -> list[nn.Module]:
        """See `Encoder`; all blocks of a plain transformer, those of the last stage of `pvt_v2_*`."""
        return _attention_layers(self.net)

    def _maps(self, image: ImageBatch) -> list[Tensor]:
        if isinstance(self.net, VisionTransformer):
            return self.net.forward_intermediates(image, indices=self.indices, norm=True, intermediates_only=True)
        if isinstance(self.net, PyramidVisionTransformerV2):
            return self.net.forward_intermediates(image, intermediates_only=True)
        maps = self.net(image)
        if self.channels_last:
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        return list(maps)

    def _last_layers(self) -> list[Any]:
        layers = _attention_layers(self.net)
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
        # What stands behind the tokens would be parameters without gradients, which DDP refuses.
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
        # Swin and its kin give [B, H, W, C] and say so.
        self.channels_last = str(getattr(self.net, "output_fmt", "NCHW")).upper().endswith("NHWC")


def _attention_layers(net: nn.Module) -> list[Any]:
    """Layers, first to last, with attention between all tokens of the network's last map."""
    layers: list[Any] = []
    if isinstance(net, VisionTransformer):
        layers = [getattr(block, "attn", None) for block in net.blocks]
        return layers if all(hasattr(layer, "q_norm") for layer in layers) else []
    if isinstance(net, PyramidVisionTransformerV2):
        layers = [block.attn for block in net.stages[-1].blocks]
    # Reduced keys (linear attention) are no tokens of the map.
    return layers if all(layer.sr is None for layer in layers) else []


@contextmanager
def record_attention(layers: Sequence[Any], *, pre_softmax: bool, prefix: int = 0) -> Iterator[list[Attention]]:
    """Collect the attention of timm layers while they run.

    Queries and keys are read on their way by hooks and multiplied here, so that the layers keep their fused
    kernel and nothing of them is changed; the hooks are gone afterwards, also after an error.

    Args:
        layers: attention layers of a `VisionTransformer` or `PyramidVisionTransformerV2`.
        pre_softmax: collect q·kᵀ as it is; else the softmax weights.
        prefix: leading tokens (class, registers) to drop.

    Yields:
        A list that fills with [B, heads, N, N] float32 per layer, in the order they ran.
    """
    taken: list[Attention] = []
    handles = []
    try:
        for layer in layers:
            query, key = (layer.q_norm, layer.k_norm) if hasattr(layer, "q_norm") else (layer.q, layer.kv)
            capture = _Capture(layer, taken, pre_softmax=pre_softmax, prefix=prefix)
            handles.append(query.register_forward_hook(capture.query))
            handles.append(key.register_forward_hook(capture.key))
        yield taken
    finally:
        for handle in handles:
            handle.remove()


class _Capture:
    """Holds a layer's query until its key comes by (timm computes them in this order)."""

    def __init__(self, layer: Any, taken: list[Attention], *, pre_softmax: bool, prefix: int) -> None:
        self.layer = layer
        self.taken = taken
        self.finish: Callable[[Tensor], Tensor] = _identity if pre_softmax else self._softmax
        self.prefix = prefix
        self.held: Tensor | None = None

    def query(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.held = self._by_head(output)

    def key(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        assert self.held is not None
        # PVT's `kv` gives keys in the first half of its channels and values in the second.
        keys = self._by_head(output if output.dim() == 4 else output.chunk(2, dim=-1)[0])
        with torch.autocast(output.device.type, enabled=False):
            logits = self.held.float() @ keys.float().transpose(-2, -1)
            self.taken.append(self.finish(logits)[..., self.prefix :, self.prefix :])
        self.held = None

    def _by_head(self, x: Tensor) -> Tensor:
        return x if x.dim() == 4 else x.unflatten(-1, (int(self.layer.num_heads), -1)).transpose(1, 2)

    def _softmax(self, logits: Tensor) -> Tensor:
        return (logits * float(self.layer.scale)).softmax(dim=-1)


def _identity(x: Tensor) -> Tensor:
    return x


def _cropped_tokens(weights: Attention, grid: tuple[int, int], size: tuple[int, int]) -> Attention:
    """Keep the queries and keys of the first `size` rows and columns of the `grid` tokens are laid out on."""
    if grid == size:
        return weights
    kept = weights.unflatten(3, grid)[..., : size[0], : size[1]].flatten(3)
    return kept.unflatten(2, grid)[:, :, : size[0], : size[1]].flatten(2, 3)
