"""Names of `seewhy.volumes`."""

from .engine.engine import Progress as Progress
from .engine.engine import VolumeEngine as VolumeEngine
from .estimate import Estimate as Estimate
from .geometry import BlendingWindow as BlendingWindow
from .geometry import PatchGrid as PatchGrid
from .memory import Memory as Memory
from .normalization import ChannelNormalization as ChannelNormalization
from .output_format import OutputFormat as OutputFormat
from .plan import Plan as Plan
from .plan import Tile as Tile
from .plan import make_plan as make_plan
from .predictor import PatchPredictor as PatchPredictor
from .predictor import predict_array as predict_array
from .statistics import measure as measure
