"""The features that distances are measured in, whose name belongs beside every such figure.

Slices as small pictures of the tissue: which ones, and cut how.
"""

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
from seewhy.interop.encoder_weights import load_encoder_weights
from seewhy.interop.tensors import read_tensors
from seewhy.io.atomic import file_sha256
from seewhy.metrics.translation.feature_distances import FEATURES, intensity_features
from seewhy.run.translation.evaluation.settings import FeatureChoice

__all__ = ["FeatureExtractor", "build_features", "chosen_slices", "tissue_squares"]

CONTENT = 0.1
"""Least tissue of a slice, as a share of that in the subject's fullest one."""


def chosen_slices(body: Tensor, count: int) -> list[int]:
    """Slices spread evenly over those that show enough of the head.

    Args:
        body: [S, H, W] bool.
        count: how many; 0 is all of them.
    """
    content = body.flatten(1).sum(dim=1).cpu().numpy()
    enough = np.flatnonzero(content >= max(1.0, CONTENT * content.max()))
    if count and len(enough) > count:
        enough = enough[np.linspace(0, len(enough) - 1, count).round().astype(int)]
    return [int(number) for number in enough]


def tissue_squares(image: Tensor, body: Tensor, size: int) -> Tensor:
    """The square around each slice's tissue, resized with the average over what becomes one pixel.

    So neither the size of the field of view nor where the head lies in it tells one site from another; that of a
    head does, if the sites' heads differ.

    Args:
        image: [N, M, H, W] in [-1, 1], -1 outside the tissue.
        body: [N, H, W] bool; each slice has some.
        size: side of the result.

    Returns:
        [N, M, size, size] float32.
    """
    found = []
    for plane, inside in zip(image.float(), body, strict=True):
        rows, columns = (torch.nonzero(inside.any(dim=axis)).flatten() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) - top + 1, int(columns[-1]) - left + 1
        side = max(height, width)
        above, before = (side - height) // 2, (side - width) // 2
        cut = plane[:, top : top + height, left : left + width]
        cut = F.pad(cut, (before, side - width - before, above, side - height - above), value=-1.0)
        found.append(F.interpolate(cut[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0])
    return torch.stack(found)


class FeatureExtractor(Protocol):
    """Turns slices into numbers, modality by modality."""

    name: str
    dimensions: int
    weights: str | None
    """SHA-256 of the weights file."""
    standardized: bool
    """Whether each number is divided by its spread among the target's real slices before distances are taken."""

    def __call__(self, image: Tensor, body: Tensor) -> NDArray[np.float32]:
        """Measure slices.

        Args:
            image: [N, M, H, W] in [-1, 1].
            body: [N, H, W] bool.

        Returns:
            [N, M, dimensions].
        """


class StatisticFeatures:
    """`seewhy.metrics.translation.feature_distances`."""

    name = "statistics"
    dimensions = FEATURES
    weights: str | None = None
    standardized = True

    def __call__(self, image: Tensor, body: Tensor) -> NDArray[np.float32]:
        """See `Features`."""
        return intensity_features(image.float().cpu().numpy(), body.cpu().numpy())


class NetworkFeatures:
    """What a network for colour pictures makes of each modality as a grey picture of its own.

    Args:
        name: of the network and its weights.
        network: [N, 3, size, size] → [N, D], or [N, D, h, w], of which the mean is taken; the square around the
            tissue is resized to its size.
        weights: SHA-256 of the file.
        batch_size: pictures at once.
    """

    standardized = False

    def __init__(self, *, name: str, network: _Network, weights: str, batch_size: int) -> None:
        self.name, self.net, self.size = name, network.net.eval().requires_grad_(False), network.size
        self.weights: str | None = weights
        self.mean, self.spread = (torch.tensor(own)[:, None, None] for own in (network.mean, network.spread))
        self.batch_size = batch_size
        self.dimensions = self(torch.full((1, 1, 8, 8), -1.0), torch.ones(1, 8, 8, dtype=torch.bool)).shape[-1]

    @torch.no_grad()
    def __call__(self, image: Tensor, body: Tensor) -> NDArray[np.float32]:
        """See `Features`."""
        self.net.to(image.device)
        mean, spread = self.mean.to(image.device), self.spread.to(image.device)
        grey = (tissue_squares(image, body, self.size).flatten(0, 1)[:, None] + 1) / 2
        parts = []
        # The precision of a run is that of its model; features are compared across runs.
        with torch.autocast(image.device.type, enabled=False):
            for piece in grey.split(self.batch_size):
                found = self.net((piece.expand(-1, 3, -1, -1) - mean) / spread)
                parts.append((found.mean(dim=(2, 3)) if found.ndim == 4 else found).float().cpu())
        features: NDArray[np.float32] = torch.cat(parts).unflatten(0, image.shape[:2]).numpy()
        return features


def build_features(choice: FeatureChoice) -> FeatureExtractor:
    """The features that `evaluate.features` names.

    Raises:
        ConfigError: a name that is none, a network without a file, or a library that is missing.
        CheckpointError: a file of another network.
    """
    if choice.name == "statistics":
        if choice.weights is not None:
            raise ConfigError("evaluate.features.weights is given, but evaluate.features.name=statistics has none")
        return StatisticFeatures()
    path = _weights(choice)
    if choice.name == "inception":
        network = _Network(_inception(path), 299, (0.0,) * 3, (1.0,) * 3)
    else:
        network = _timm(choice, path)
    return NetworkFeatures(
        name=f"{choice.name} ({path.name})",
        network=network._replace(size=choice.size or network.size),
        weights=file_sha256(path),
        batch_size=choice.batch_size,
    )


class _Network(NamedTuple):
    """A network with the side and the colours, for values in [0, 1], that it expects."""

    net: nn.Module
    size: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]


def _weights(choice: FeatureChoice) -> Path:
    if choice.weights is None:
        raise ConfigError(
            f"evaluate.features.name={choice.name} needs evaluate.features.weights=<file>; a network with chance "
            "weights would measure nothing. Without a file: evaluate.features.name=statistics"
        )
    path = Path(choice.weights)
    if not path.is_file():
        raise CheckpointError(f"evaluate.features.weights={path} does not exist")
    return path


def _timm(choice: FeatureChoice, path: Path) -> _Network:
    import timm

    if not timm.is_model(choice.name):
        known = nearest(choice.name, ["statistics", "inception", *timm.list_models()])
        raise ConfigError(f"evaluate.features.name={choice.name!r} is neither ours nor a network of timm; {known}")
    net = timm.create_model(choice.name, pretrained=False, num_classes=0)
    load_encoder_weights(net, path, by=choice.by)
    expected: dict[str, Any] = net.pretrained_cfg
    return _Network(net, int(expected["input_size"][-1]), tuple(expected["mean"]), tuple(expected["std"]))


def _inception(path: Path) -> nn.Module:
    """The network of FID as torch-fidelity has it, from its converted weights, which are never unpickled."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ModuleNotFoundError as error:
        raise ConfigError("evaluate.features.name=inception needs torch-fidelity: pip install seewhy[fid]") from error
    tensors = read_tensors(path)
    with tempfile.TemporaryDirectory() as folder:  # it takes nothing but a path, and would run what is in the file
        safe = Path(folder) / "weights.pth"
        torch.save(tensors, safe)
        try:
            net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(safe))
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(
                f"{path} holds no weights of FID's Inception ({first}); torchvision's and timm's is "
                "evaluate.features.name=inception_v3"
            ) from error
    return _Inception(net)


class _Inception(nn.Module):
    """Colours from 0 to 1 as the whole numbers from 0 to 255 that it takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, 299, 299] in [0, 1] → [N, 2048]."""
        found: Tensor = self.net((image * 255).round().clamp(0, 255).byte())[0]
        return found
