"""LlamaIndex integration of Prediction Guard: chat, vision, embeddings and reranking."""

import importlib
from typing import TYPE_CHECKING, Any

try:
    from llama_index.core.base.llms.types import ToolCallBlock  # noqa: F401 - the newest name that is needed
except ImportError as error:
    raise ImportError(
        "llama-index-core is not installed, or older than 0.14.24: "
        'pip install "predictionguard-integrations[llama-index]"'
    ) from error

from predictionguard_core import errors
from predictionguard_core.errors import *  # noqa: F403
from predictionguard_core.version import __version__

if TYPE_CHECKING:
    from llama_index_predictionguard.checks import PredictionGuardChecker
    from llama_index_predictionguard.embeddings import PredictionGuardEmbedding
    from llama_index_predictionguard.evaluation import PredictionGuardFactualityEvaluator
    from llama_index_predictionguard.llm import PredictionGuard
    from llama_index_predictionguard.multi_modal import PredictionGuardMultiModal
    from llama_index_predictionguard.postprocessors import (
        PredictionGuardInjectionPostprocessor,
        PredictionGuardPIIPostprocessor,
    )
    from llama_index_predictionguard.readers import PredictionGuardReader
    from llama_index_predictionguard.rerank import PredictionGuardRerank
    from predictionguard_core.api.checks import InputChecks, OutputChecks
    from predictionguard_core.images.image import Image
    from predictionguard_core.images.policy import ImagePolicy

__all__ = [
    "Image",
    "ImagePolicy",
    "InputChecks",
    "OutputChecks",
    "PredictionGuard",
    "PredictionGuardChecker",
    "PredictionGuardEmbedding",
    "PredictionGuardFactualityEvaluator",
    "PredictionGuardInjectionPostprocessor",
    "PredictionGuardMultiModal",
    "PredictionGuardPIIPostprocessor",
    "PredictionGuardReader",
    "PredictionGuardRerank",
    "__version__",
]
__all__ += errors.__all__

_MODULES = {
    "Image": "predictionguard_core.images.image",
    "ImagePolicy": "predictionguard_core.images.policy",
    "InputChecks": "predictionguard_core.api.checks",
    "OutputChecks": "predictionguard_core.api.checks",
    "PredictionGuardChecker": "llama_index_predictionguard.checks",
    "PredictionGuardFactualityEvaluator": "llama_index_predictionguard.evaluation",
    "PredictionGuardInjectionPostprocessor": "llama_index_predictionguard.postprocessors",
    "PredictionGuardPIIPostprocessor": "llama_index_predictionguard.postprocessors",
    "PredictionGuardReader": "llama_index_predictionguard.readers",
    "PredictionGuard": "llama_index_predictionguard.llm",
    "PredictionGuardEmbedding": "llama_index_predictionguard.embeddings",
    # LlamaIndex has deprecated the base of this class and may remove it.
    "PredictionGuardMultiModal": "llama_index_predictionguard.multi_modal",
    "PredictionGuardRerank": "llama_index_predictionguard.rerank",
}

_LANGCHAIN_NAMES = {
    "ChatPredictionGuard": "PredictionGuard",
    "PredictionGuardBlobParser": "PredictionGuardReader",
    "PredictionGuardCheck": "PredictionGuardChecker",
    "PredictionGuardEmbeddings": "PredictionGuardEmbedding",
    "PredictionGuardLoader": "PredictionGuardReader",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562), so that importing the package stays cheap."""
    if name in _LANGCHAIN_NAMES:  # from an AttributeError Python would make an ImportError without its text
        raise ImportError(
            f"{name} is in langchain_predictionguard; the LlamaIndex integration has {_LANGCHAIN_NAMES[name]}"
        )
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
