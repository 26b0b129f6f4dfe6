"""Prediction Guard for LangChain."""

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        'langchain-core is not installed: pip install "predictionguard-integrations[langchain]"'
    ) from error

from langchain_predictionguard.chat_models import ChatPredictionGuard
from langchain_predictionguard.errors import *  # noqa: F403
from langchain_predictionguard.errors import __all__ as _errors
from predictionguard_core.policy import ImagePolicy
from predictionguard_core.version import __version__
from predictionguard_core.wire import InputChecks, OutputChecks

__all__ = ["ChatPredictionGuard", "ImagePolicy", "InputChecks", "OutputChecks", "__version__", *_errors]
