"""Prediction Guard for LlamaIndex."""

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
    from llama_index_predictionguard.multi_modal import PredictionGuardMultiModal

__all__ = [
    "ImagePolicy",
    "InputChecks",
    "OutputChecks",
    "PredictionGuard",
    "PredictionGuardMultiModal",
    "__version__",
    *_errors,
]


def __getattr__(name: str) -> Any:
    # Its base class is retired in LlamaIndex and may go: only who asks for it imports it.
    if name == "PredictionGuardMultiModal":
        from llama_index_predictionguard.multi_modal import PredictionGuardMultiModal

        return PredictionGuardMultiModal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
