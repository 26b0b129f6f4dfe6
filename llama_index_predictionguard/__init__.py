"""Prediction Guard for LlamaIndex."""

from typing import TYPE_CHECKING

try:
    from llama_index.core.base.llms.types import ToolCallBlock  # noqa: F401 - the youngest name that is needed
except ImportError as error:
    raise ImportError(
        "llama-index-core is not installed, or older than 0.14.5: "
        'pip install "predictionguard-integrations[llama-index]"'
    ) from error

from predictionguard_core import errors, lazy
from predictionguard_core.errors import *  # noqa: F403
from predictionguard_core.version import __version__

if TYPE_CHECKING:
    from llama_index_predictionguard.embeddings import PredictionGuardEmbedding
    from llama_index_predictionguard.llm import PredictionGuard
    from llama_index_predictionguard.multi_modal import PredictionGuardMultiModal
    from llama_index_predictionguard.rerank import PredictionGuardRerank
    from predictionguard_core.api.checks import InputChecks, OutputChecks
    from predictionguard_core.images.policy import ImagePolicy

__all__ = [
    "ImagePolicy",
    "InputChecks",
    "OutputChecks",
    "PredictionGuard",
    "PredictionGuardEmbedding",
    "PredictionGuardMultiModal",
    "PredictionGuardRerank",
    "__version__",
]
__all__ += errors.__all__  # a form that type checkers read

# Imported by who asks for it. The multi-modal class's base is retired in LlamaIndex, and may go.
_LATER = {
    "PredictionGuard": "llama_index_predictionguard.llm",
    "PredictionGuardMultiModal": "llama_index_predictionguard.multi_modal",
    "PredictionGuardEmbedding": "llama_index_predictionguard.embeddings",
    "PredictionGuardRerank": "llama_index_predictionguard.rerank",
    "ImagePolicy": "predictionguard_core.images.policy",
    "InputChecks": "predictionguard_core.api.checks",
    "OutputChecks": "predictionguard_core.api.checks",
}

__getattr__ = lazy.attributes(__name__, _LATER)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
