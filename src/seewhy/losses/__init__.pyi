"""Names of `seewhy.losses`."""

from .classification import BinaryLoss as BinaryLoss
from .classification import ClassWeights as ClassWeights
from .classification import CrossEntropy as CrossEntropy
from .classification import EarthMoverLoss as EarthMoverLoss
from .classification import FocalLoss as FocalLoss
from .classification import SoftOrdinalLoss as SoftOrdinalLoss
from .classification import balanced_weights as balanced_weights
from .classification import build_loss as build_loss
from .translation import AdversarialLoss as AdversarialLoss
from .translation import PatchNCELoss as PatchNCELoss
from .translation import TranslationLoss as TranslationLoss
from .translation import absolute_difference as absolute_difference
from .translation import foreground_mean as foreground_mean
from .translation import gradient_difference as gradient_difference
from .translation import structural_dissimilarity as structural_dissimilarity
from .volumes import DeepSupervision as DeepSupervision
from .volumes import DiceCrossEntropy as DiceCrossEntropy
from .volumes import masked_mean as masked_mean
from .volumes import region_masks as region_masks
from .weakly_supervised import AffinityLoss as AffinityLoss
from .weakly_supervised import BalancedCrossEntropy as BalancedCrossEntropy
from .weakly_supervised import MultiLabelLoss as MultiLabelLoss
from .weakly_supervised import affinity_loss as affinity_loss
from .weakly_supervised import balanced_cross_entropy as balanced_cross_entropy
