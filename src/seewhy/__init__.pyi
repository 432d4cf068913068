"""Names of `seewhy`."""

from .reporting.loaders.explain_loader import ExplainedSample as ExplainedSample
from .reporting.loaders.explain_loader import explain_loader as explain_loader
from .run.loaded.cases import CasePrediction as CasePrediction
from .run.loaded.loading import load as load
from .run.loaded.model import LoadedModel as LoadedModel
from .run.loaded.saving import save as save

__version__: str
