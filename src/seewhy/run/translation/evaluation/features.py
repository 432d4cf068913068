"""Features of slices in which distances are measured: intensity statistics or a network for colour pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.errors import CheckpointError, ConfigError, nearest
from seewhy.interop.tensors import read_tensors
from seewhy.interop.weights import load_encoder_weights
from seewhy.io.atomic import file_sha256
from seewhy.metrics.translation.feature_distances import FEATURES, intensity_features
from seewhy.run.translation.evaluation.settings import FeatureOptions

__all__ = ["FeatureExtractor", "build_features", "choose_slices", "crop_tissue"]

CONTENT = 0.1
"""Least tissue of a slice, as a fraction of the tissue in the subject's fullest slice."""


def choose_slices(body: Tensor, count: int) -> list[int]:
    """Choose slices spread evenly over those that show enough of the head.

    Args:
        body: [S, H, W] bool.
        count: number of slices; 0 means all.

    Example:
        >>> import torch
        >>> from seewhy.run.translation.evaluation.features import choose_slices
        >>> body = torch.zeros(6, 4, 4, dtype=torch.bool)
        >>> body[1:] = True
        >>> choose_slices(body, 3)
        [1, 3, 5]
    """
    content = body.flatten(1).sum(dim=1).cpu().numpy()
    enough = np.flatnonzero(content >= max(1.0, CONTENT * content.max()))
    if count and len(enough) > count:
        enough = enough[np.linspace(0, len(enough) - 1, count).round().astype(int)]
    return [int(number) for number in enough]


def crop_tissue(image: Tensor, body: Tensor, size: int) -> Tensor:
    """Crop the square around each slice's tissue and resize it with antialiasing.

    So neither the size of the field of view nor the position of the head can distinguish sites; the shape of heads
    can, if the sites' heads differ.

    Args:
        image: [N, M, H, W] in [-1, 1], -1 outside the tissue.
        body: [N, H, W] bool; every slice has tissue.
        size: side of the result in pixels.

    Returns:
        [N, M, size, size] float32.
    """
    squares = []
    for plane, inside in zip(image.float(), body, strict=True):
        rows, columns = (torch.nonzero(inside.any(dim=axis)).flatten() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
        side = max(height, width)
        above, before = (side - height) // 2, (side - width) // 2
        cut = plane[:, top : top + height, left : left + width]
        cut = F.pad(cut, (before, side - width - before, above, side - height - above), value=-1.0)
        squares.append(F.interpolate(cut[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0])
    return torch.stack(squares)


class FeatureExtractor(Protocol):
    """Computes features of slices, modality by modality."""

    name: str
    dimensions: int
    weights: str | None
    """SHA-256 of the weights file."""
    standardized: bool
    """Whether features are divided by their spread among the target's real slices before distances are measured."""

    def __call__(self, image: Tensor, body: Tensor) -> NDArray[np.float32]:
        """Compute the features of slices.

        Args:
            image: [N, M, H, W] in [-1, 1].
            body: [N, H, W] bool.

        Returns:
            [N, M, dimensions].
        """


class StatisticFeatures:
    """Intensity statistics, see `seewhy.metrics.translation.feature_distances`."""

    name = "statistics"
    dimensions = FEATURES
    weights: str | None = None
    standardized = True

    def __call__(self, image: Tensor, body: Tensor) -> NDArray[np.float32]:
        """See `FeatureExtractor`."""
        return intensity_features(image.float().cpu().numpy(), body.cpu().numpy())


class NetworkFeatures:
    """Features of a network for colour pictures, to which each modality is given as a grey picture.

    Args:
        name: of the network and its weights.
        network: [N, 3, size, size] → [N, D], or [N, D, h, w], which is averaged over h and w; the square around the
            tissue is resized to `size`.
        weights: SHA-256 of the file.
        batch_size: pictures per forward pass.
    """

    standardized = False

    def __init__(self, *, name: str, network: _Network, weights: str, batch_size: int) -> None:
        self.name, self.net, self.size = name, network.net.eval().requires_grad_(False), network.size
        self.weights: str | None = weights
        self.mean, self.spread = (torch.tensor(values)[:, None, None] for values in (network.mean, network.spread))
        self.batch_size = batch_size
        self.dimensions = self(torch.full((1, 1, 8, 8), -1.0), torch.ones(1, 8, 8, dtype=torch.bool)).shape[-1]

    @torch.no_grad()
    def __call__(self, image: Tensor, body: Tensor) -> NDArray[np.float32]:
        """See `FeatureExtractor`."""
        self.net.to(image.device)
        mean, spread = self.mean.to(image.device), self.spread.to(image.device)
        grey = (crop_tissue(image, body, self.size).flatten(0, 1)[:, None] + 1) / 2
        parts = []
        # Without autocast, since features are compared across runs of different precision.
        with torch.autocast(image.device.type, enabled=False):
            for piece in grey.split(self.batch_size):
                output = self.net((piece.expand(-1, 3, -1, -1) - mean) / spread)
                parts.append((output.mean(dim=(2, 3)) if output.ndim == 4 else output).float().cpu())
        features: NDArray[np.float32] = torch.cat(parts).unflatten(0, image.shape[:2]).numpy()
        return features


def build_features(choice: FeatureOptions) -> FeatureExtractor:
    """Build the features of `evaluate.features`.

    Raises:
        ConfigError: an unknown name, a network without a weights file, or a missing library.
        CheckpointError: a file of another network.
    """
    if choice.name == "statistics":
        if choice.weights is not None:
            raise ConfigError(
                "evaluate.features.weights is given, but evaluate.features.name=statistics takes no weights"
            )
        return StatisticFeatures()
    path = _find_weights(choice)
    if choice.name == "inception":
        network = _Network(_build_inception(path), 299, (0.0,) * 3, (1.0,) * 3)
    else:
        network = _build_timm(choice, path)
    return NetworkFeatures(
        name=f"{choice.name} ({path.name})",
        network=network._replace(size=choice.size or network.size),
        weights=file_sha256(path),
        batch_size=choice.batch_size,
    )


class _Network(NamedTuple):
    """A network with its input size and its mean and deviation of colours in [0, 1]."""

    net: nn.Module
    size: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]


def _find_weights(choice: FeatureOptions) -> Path:
    if choice.weights is None:
        raise ConfigError(
            f"evaluate.features.name={choice.name} needs evaluate.features.weights=<file>; a network with "
            "random weights would measure nothing. Without a file use evaluate.features.name=statistics"
        )
    path = Path(choice.weights)
    if not path.is_file():
        raise CheckpointError(f"evaluate.features.weights={path} does not exist")
    return path


def _build_timm(choice: FeatureOptions, path: Path) -> _Network:
    import timm

    if not timm.is_model(choice.name):
        close = nearest(choice.name, ["statistics", "inception", *timm.list_models()])
        raise ConfigError(f"evaluate.features.name={choice.name!r} is unknown to seewhy and to timm; {close}")
    net = timm.create_model(choice.name, pretrained=False, num_classes=0)
    load_encoder_weights(net, path, by=choice.by)
    expected: dict[str, Any] = net.pretrained_cfg
    return _Network(net, int(expected["input_size"][-1]), tuple(expected["mean"]), tuple(expected["std"]))


def _build_inception(path: Path) -> nn.Module:
    """Build the Inception of FID from torch-fidelity with converted weights, which are read without unpickling."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ModuleNotFoundError as error:
        raise ConfigError("evaluate.features.name=inception needs torch-fidelity: pip install seewhy[fid]") from error
    tensors = read_tensors(path)
    # torch-fidelity takes only a path and would unpickle the file, so it gets a copy of the tensors.
    with tempfile.TemporaryDirectory() as folder:
        safe = Path(folder) / "weights.pth"
        torch.save(tensors, safe)
        try:
            net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(safe))
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(
                f"{path} does not hold the weights of FID's Inception ({first}); the Inception of torchvision and timm "
                "is evaluate.features.name=inception_v3"
            ) from error
    return _Inception(net)


class _Inception(nn.Module):
    """Converts colours in [0, 1] to the integers from 0 to 255 that the network takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, 299, 299] in [0, 1] → [N, 2048]."""
        features: Tensor = self.net((image * 255).round().clamp(0, 255).byte())[0]
        return features
