"""Names of `seewhy.phantoms`."""

from .amd import EyeRecipe as EyeRecipe
from .amd import draw_eye as draw_eye
from .amd import write_amd_phantom as write_amd_phantom
from .ct import Body as Body
from .ct import BodyRecipe as BodyRecipe
from .ct import draw_body as draw_body
from .ct import write_ct_phantom as write_ct_phantom
from .mri import HeadRecipe as HeadRecipe
from .mri import SyntheticHead as SyntheticHead
from .mri import draw_head as draw_head
from .mri import write_mri_phantom as write_mri_phantom
from .scanners import Brain as Brain
from .scanners import BrainRecipe as BrainRecipe
from .scanners import PulseSequence as PulseSequence
from .scanners import Scanner as Scanner
from .scanners import acquire_scans as acquire_scans
from .scanners import draw_brain as draw_brain
from .scanners import write_scanner_phantom as write_scanner_phantom
from .slices import Recipe as Recipe
from .slices import draw_patient as draw_patient
from .slices import write_atrium_phantom as write_atrium_phantom
from .slices import write_tumour_phantom as write_tumour_phantom
from .volume_drawing import Frame as Frame
from .volume_drawing import draw_field as draw_field
from .volume_drawing import make_frame as make_frame
from .volume_drawing import soft_step as soft_step
