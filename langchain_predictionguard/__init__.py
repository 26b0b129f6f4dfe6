"""Prediction Guard for LangChain."""

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    _REMEDY = 'pip install "predictionguard-integrations[langchain]"'
    raise ImportError(f"langchain-core is not installed: {_REMEDY}") from error

from langchain_predictionguard.chat_models import ChatPredictionGuard
from langchain_predictionguard.embeddings import PredictionGuardEmbeddings
from langchain_predictionguard.errors import *  # noqa: F403
from langchain_predictionguard.errors import __all__ as _errors
from langchain_predictionguard.llms import PredictionGuard
from langchain_predictionguard.rerank import PredictionGuardRerank
from predictionguard_core.policy import ImagePolicy
from predictionguard_core.version import __version__
from predictionguard_core.wire import InputChecks, OutputChecks

__all__ = [
    "ChatPredictionGuard",
    "ImagePolicy",
    "InputChecks",
    "OutputChecks",
    "PredictionGuard",
    "PredictionGuardEmbeddings",
    "PredictionGuardRerank",
    "__version__",
    *_errors,
]
