"""Prediction Guard for LlamaIndex."""

import importlib
from typing import TYPE_CHECKING, Any

try:
    from llama_index.core.base.llms.types import ToolCallBlock  # noqa: F401 - the youngest name that is needed
except ImportError as error:
    raise ImportError(
        "llama-index-core is not installed, or older than 0.14.5: "
        'pip install "predictionguard-integrations[llama-index]"'
    ) from error

from llama_index_predictionguard.llm import PredictionGuard
from predictionguard_core.errors import *  # noqa: F403
from predictionguard_core.errors import __all__ as _errors
from predictionguard_core.policy import ImagePolicy
from predictionguard_core.version import __version__
from predictionguard_core.wire import InputChecks, OutputChecks

if TYPE_CHECKING:
    from llama_index_predictionguard.embeddings import PredictionGuardEmbedding
    from llama_index_predictionguard.multi_modal import PredictionGuardMultiModal
    from llama_index_predictionguard.rerank import PredictionGuardRerank

__all__ = [
    "ImagePolicy",
    "InputChecks",
    "OutputChecks",
    "PredictionGuard",
    "PredictionGuardEmbedding",
    "PredictionGuardMultiModal",
    "PredictionGuardRerank",
    "__version__",
    *_errors,
]


# What most programs don't need is imported by who asks for it. The first one's base class is retired, and may go.
_LATER = {
    "PredictionGuardMultiModal": "multi_modal",
    "PredictionGuardEmbedding": "embeddings",
    "PredictionGuardRerank": "rerank",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
