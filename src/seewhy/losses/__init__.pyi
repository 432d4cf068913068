"""Names of `seewhy.losses`."""

from .classification import BinaryLoss as BinaryLoss
from .classification import ClassWeights as ClassWeights
from .classification import CrossEntropy as CrossEntropy
from .classification import EarthMoverLoss as EarthMoverLoss
from .classification import FocalLoss as FocalLoss
from .classification import SoftOrdinalLoss as SoftOrdinalLoss
from .classification import balanced_weights as balanced_weights
from .classification import build_loss as build_loss
from .segmentation import AffinityLoss as AffinityLoss
from .segmentation import BalancedCrossEntropy as BalancedCrossEntropy
from .segmentation import DeepSupervision as DeepSupervision
from .segmentation import DiceCrossEntropy as DiceCrossEntropy
from .segmentation import MultiLabelLoss as MultiLabelLoss
from .segmentation import affinity_loss as affinity_loss
from .segmentation import balanced_cross_entropy as balanced_cross_entropy
from .segmentation import masked_mean as masked_mean
from .segmentation import region_masks as region_masks
from .translation import AdversarialLoss as AdversarialLoss
from .translation import PatchNCELoss as PatchNCELoss
from .translation import TranslationLoss as TranslationLoss
from .translation import absolute_difference as absolute_difference
from .translation import foreground_mean as foreground_mean
from .translation import gradient_difference as gradient_difference
from .translation import structural_dissimilarity as structural_dissimilarity
