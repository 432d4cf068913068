"""Names of `seewhy`."""

from .reporting.loaders.explain_loader import explain_loader as explain_loader
from .reporting.loaders.explained_sample import ExplainedSample as ExplainedSample
from .run.loaded.cases import CasePrediction as CasePrediction
from .run.loaded.loading import load as load
from .run.loaded.model import LoadedModel as LoadedModel
from .run.loaded.saving import save as save

__version__: str
