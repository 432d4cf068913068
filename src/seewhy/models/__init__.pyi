"""Names of `seewhy.models`."""

from .base import BaseModule as BaseModule
from .classification.amd import AMDGrading as AMDGrading
from .classification.base import Classification as Classification
from .classification.mri import MRIClassification as MRIClassification
from .translation.cyclegan_25d import CycleGAN25D as CycleGAN25D
from .translation.unpaired import UnpairedTranslation as UnpairedTranslation
from .volumes.networks import VolumeNetwork as VolumeNetwork
from .volumes.segmentation import VolumeSegmentation as VolumeSegmentation
from .weakly_supervised.segmentation import WeaklySupervisedSegmentation as WeaklySupervisedSegmentation
