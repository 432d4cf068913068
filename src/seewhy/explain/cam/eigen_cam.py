"""EigenCAM."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.explain.cam.base import ActivationMap

__all__ = ["EigenCAM"]


class EigenCAM(ActivationMap):
    """Projection of the activations on their first principal component (Muhammad and Yeasin 2020, arXiv 2008.00299).

    Activations are centred over places, as the grad-cam package does: without it the first component is their mean.
    A component has no sign of its own; here it is the one with which the map correlates positively with the mean
    activation, so bright is where the network is active. The map is the same for every target: it shows what the
    layer sees, not what speaks for a class. The slices of a volume share one component.
    """

    method = "eigen_cam"
    needs_gradient = False
    joins_slices = True

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """(A − mean A) · v₁ at each place."""
        places = activation.flatten(2)
        centred = places - places.mean(dim=2, keepdim=True)
        projection = _first_component(centred)
        active = (projection * centred.mean(dim=1)).sum(dim=1, keepdim=True)
        return torch.where(active < 0, -projection, projection).reshape(len(activation), *activation.shape[2:])


def _first_component(centred: Tensor) -> Tensor:
    """Projections [N, L] of the places of [N, C, L] on the first principal direction of their channels.

    By the eigenvectors of the smaller of the two Gram matrices, in double precision: a decomposition of the data
    itself would take minutes where a layer has thousands of places.
    """
    channels, places = centred.shape[1:]
    if channels <= places:
        gram = torch.einsum("ncl,ndl->ncd", centred.double(), centred.double())
        direction = torch.linalg.eigh(gram).eigenvectors[:, :, -1].float()
        return torch.einsum("nc,ncl->nl", direction, centred)
    gram = torch.einsum("ncl,ncm->nlm", centred.double(), centred.double())
    values, vectors = torch.linalg.eigh(gram)
    return (vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()).float()
