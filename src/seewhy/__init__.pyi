"""Names of `seewhy`."""

from .reporting.explain_loader import explain_loader as explain_loader
from .reporting.explained_sample import ExplainedSample as ExplainedSample
from .run.loaded.case_prediction import CasePrediction as CasePrediction
from .run.loaded.model import LoadedModel as LoadedModel
from .run.loaded.model import load as load

__version__: str
