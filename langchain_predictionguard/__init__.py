"""LangChain integration for Prediction Guard: chat with images, completions, embeddings, reranking and checks."""

import importlib
from typing import TYPE_CHECKING, Any

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    _REMEDY = 'pip install "predictionguard-integrations[langchain]"'
    raise ImportError(f"langchain-core is not installed: {_REMEDY}") from error

from langchain_predictionguard import errors
from langchain_predictionguard.errors import *  # noqa: F403
from predictionguard_core.retired_package import warn_if_installed
from predictionguard_core.version import __version__

warn_if_installed(__file__)

if TYPE_CHECKING:
    from langchain_predictionguard.chat_models import ChatPredictionGuard
    from langchain_predictionguard.checks import PredictionGuardCheck
    from langchain_predictionguard.decisions import PredictionGuardDecisionModel as PredictionGuardDecisionModel
    from langchain_predictionguard.document_loaders import PredictionGuardBlobParser, PredictionGuardLoader
    from langchain_predictionguard.embeddings import PredictionGuardEmbeddings
    from langchain_predictionguard.llms import PredictionGuard
    from langchain_predictionguard.middleware import PredictionGuardMiddleware as PredictionGuardMiddleware
    from langchain_predictionguard.rerank import PredictionGuardRerank
    from predictionguard_core.api.checks import InputChecks, OutputChecks
    from predictionguard_core.images.image import Image
    from predictionguard_core.images.policy import ImagePolicy

__all__ = [
    "ChatPredictionGuard",
    "Image",
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
__all__ += errors.__all__  # type checkers understand this form

# Loaded when first used (PEP 562): each of LangChain's base classes takes long to import.
_MODULES = {
    "ChatPredictionGuard": "langchain_predictionguard.chat_models",
    "Image": "predictionguard_core.images.image",
    "ImagePolicy": "predictionguard_core.images.policy",
    "InputChecks": "predictionguard_core.api.checks",
    "OutputChecks": "predictionguard_core.api.checks",
    "PredictionGuard": "langchain_predictionguard.llms",
    "PredictionGuardBlobParser": "langchain_predictionguard.document_loaders",
    "PredictionGuardCheck": "langchain_predictionguard.checks",
    "PredictionGuardEmbeddings": "langchain_predictionguard.embeddings",
    "PredictionGuardLoader": "langchain_predictionguard.document_loaders",
    "PredictionGuardRerank": "langchain_predictionguard.rerank",
    # Found here too, but not in __all__: the middleware needs the package langchain, which `import *` may not require.
    "PredictionGuardDecisionModel": "langchain_predictionguard.decisions",
    "PredictionGuardMiddleware": "langchain_predictionguard.middleware",
}
_IN_LLAMA_INDEX = (
    "PredictionGuardChecker",
    "PredictionGuardEmbedding",
    "PredictionGuardFactualityEvaluator",
    "PredictionGuardInjectionPostprocessor",
    "PredictionGuardMultiModal",
    "PredictionGuardPIIPostprocessor",
    "PredictionGuardReader",
)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        if "PredictionGuard" not in name:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        remedy = f"there are {', '.join(each for each in _MODULES if 'PredictionGuard' in each)}"
        if name in _IN_LLAMA_INDEX:
            remedy = f"it is LlamaIndex's: from llama_index_predictionguard import {name}"
        # `from ... import` would replace the message of an AttributeError.
        raise ImportError(f"{__name__} has no {name}; {remedy}")
    found = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
