"""Loop over the cases of a loader: network, inferer and postprocessing, one case after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from torch import nn

__all__ = ["CaseEvaluator"]


class CaseEvaluator:
    """Predicts every case and passes the result to the postprocessing.

    Args:
        dataloader: batches of one case with `image`, and `raw` where the inferer wants the image as stored.
        network: the network.
        inferer: called with the image, the network, and `raw` if there is one.
        postprocessing: of a dict with `pred`.
        device: of the network.
        checkpoint: file of the network's weights; None if it has them.
    """

    def __init__(
        self,
        dataloader: Iterable[Mapping[str, Any]],
        network: nn.Module,
        inferer: Callable[..., Any],
        postprocessing: Callable[[dict[str, Any]], Any],
        device: torch.device,
        checkpoint: str | None = None,
    ) -> None:
        self.dataloader, self.network, self.inferer = dataloader, network, inferer
        self.postprocessing, self.device = postprocessing, device
        if checkpoint is not None:
            network.load_state_dict(torch.load(Path(checkpoint), map_location=device, weights_only=True))

    def run(self) -> None:
        """Predict all cases."""
        self.network.to(self.device).eval()
        with torch.no_grad():
            for batch in self.dataloader:
                image = batch["image"].to(self.device)
                plain = image.as_tensor() if isinstance(image, MetaTensor) else image
                raw = batch["raw"].to(self.device).as_tensor() if "raw" in batch else None
                logits = self.inferer(plain, self.network) if raw is None else self.inferer(plain, self.network, raw)
                for index, result in enumerate(logits):
                    meta = _describe_case(batch["image"], index)
                    self.postprocessing({"pred": MetaTensor(result.cpu(), affine=meta.pop("affine"), meta=meta)})


def _describe_case(image: Any, index: int) -> dict[str, Any]:
    """Affine, file name and further facts of one image of a batch."""
    meta = dict(image.meta)
    affine = image.affine
    names = meta.get("filename_or_obj", "")
    name = names if isinstance(names, str) else names[index]
    return {
        "affine": affine[index] if affine.ndim == 3 else affine,
        "filename_or_obj": name,
    }
