"""Prediction Guard for LangChain."""

from typing import TYPE_CHECKING

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    _REMEDY = 'pip install "predictionguard-integrations[langchain]"'
    raise ImportError(f"langchain-core is not installed: {_REMEDY}") from error

from langchain_predictionguard import errors
from langchain_predictionguard.errors import *  # noqa: F403
from predictionguard_core import lazy
from predictionguard_core.version import __version__

if TYPE_CHECKING:
    from langchain_predictionguard.chat_models import ChatPredictionGuard
    from langchain_predictionguard.checks import PredictionGuardCheck
    from langchain_predictionguard.document_loaders import PredictionGuardBlobParser, PredictionGuardLoader
    from langchain_predictionguard.embeddings import PredictionGuardEmbeddings
    from langchain_predictionguard.llms import PredictionGuard
    from langchain_predictionguard.rerank import PredictionGuardRerank
    from predictionguard_core.api.checks import InputChecks, OutputChecks
    from predictionguard_core.images.policy import ImagePolicy

__all__ = [
    "ChatPredictionGuard",
    "ImagePolicy",
    "InputChecks",
    "OutputChecks",
    "PredictionGuard",
    "PredictionGuardBlobParser",
    "PredictionGuardCheck",
    "PredictionGuardEmbeddings",
    "PredictionGuardLoader",
    "PredictionGuardRerank",
    "__version__",
]
__all__ += errors.__all__  # a form that type checkers read

# Imported by who asks for it: each of the framework's base classes brings much with it.
_LATER = {
    "ChatPredictionGuard": "langchain_predictionguard.chat_models",
    "PredictionGuard": "langchain_predictionguard.llms",
    "PredictionGuardBlobParser": "langchain_predictionguard.document_loaders",
    "PredictionGuardCheck": "langchain_predictionguard.checks",
    "PredictionGuardEmbeddings": "langchain_predictionguard.embeddings",
    "PredictionGuardLoader": "langchain_predictionguard.document_loaders",
    "PredictionGuardRerank": "langchain_predictionguard.rerank",
    "ImagePolicy": "predictionguard_core.images.policy",
    "InputChecks": "predictionguard_core.api.checks",
    "OutputChecks": "predictionguard_core.api.checks",
}

__getattr__ = lazy.attributes(__name__, _LATER)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
