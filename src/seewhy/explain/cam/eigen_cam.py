"""EigenCAM: first principal component of the activations."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.explain.cam.base import ActivationMap

__all__ = ["EigenCAM"]


class EigenCAM(ActivationMap):
    """Projection of the activations on their first principal component (Muhammad and Yeasin 2020, arXiv 2008.00299).

    Activations are centred over positions, as in the grad-cam package; otherwise the first component is their mean.
    The sign of a component is arbitrary; it is chosen so that the map correlates positively with the mean activation,
    so that active regions are bright. The map is the same for every target: it shows what the layer responds to, not
    what is evidence for a class. The slices of a volume share one component.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import EigenCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> image = torch.rand(1, 1, 4, 4)
        >>> first, second = (EigenCAM(layers="1")(net, image, target=target).maps["image"] for target in (0, 1))
        >>> first.shape, torch.equal(first, second)
        (torch.Size([1, 4, 4]), True)
    """

    method = "eigen_cam"
    needs_gradient = False
    joins_slices = True

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute (A − mean A) · v₁ at each position."""
        flat = activation.flatten(2)
        centred = flat - flat.mean(dim=2, keepdim=True)
        projection = _project_on_first_component(centred)
        active = (projection * centred.mean(dim=1)).sum(dim=1, keepdim=True)
        return torch.where(active < 0, -projection, projection).reshape(len(activation), *activation.shape[2:])


def _project_on_first_component(centred: Tensor) -> Tensor:
    """Project the positions of [N, C, L] on the first principal direction of their channels, [N, L].

    Uses the eigenvectors of the smaller of the two Gram matrices, in double precision: a decomposition of the data
    itself would take minutes for a layer with thousands of positions.
    """
    channels, positions = centred.shape[1:]
    if channels <= positions:
        gram = torch.einsum("ncl,ndl->ncd", centred.double(), centred.double())
        direction = torch.linalg.eigh(gram).eigenvectors[:, :, -1].float()
        return torch.einsum("nc,ncl->nl", direction, centred)
    gram = torch.einsum("ncl,ncm->nlm", centred.double(), centred.double())
    values, vectors = torch.linalg.eigh(gram)
    return (vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()).float()
