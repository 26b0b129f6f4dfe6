"""Prediction Guard's API without a framework: the core that both adapters share."""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from predictionguard_core import errors
from predictionguard_core.errors import *  # noqa: F403
from predictionguard_core.version import __version__

if TYPE_CHECKING:
    from predictionguard_core.api.chat import ChatRequest
    from predictionguard_core.api.checks import InputChecks, OutputChecks
    from predictionguard_core.api.completions import CompletionRequest
    from predictionguard_core.api.documents import ExtractedDocument
    from predictionguard_core.api.embeddings import EmbeddingInput, EmbeddingRequest
    from predictionguard_core.api.rerank import RerankRequest
    from predictionguard_core.api.responses import ChatChunk, ChatCompletion
    from predictionguard_core.api.safety import (
        CheckedText,
        FactualityCheck,
        InjectionCheck,
        PIICheck,
        TextChecks,
        ToxicityCheck,
    )
    from predictionguard_core.client import AsyncClient, Client
    from predictionguard_core.images.image import Image
    from predictionguard_core.images.policy import ImagePolicy

# Quiet by default. An application that sets the level DEBUG gets a line for each request.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "AsyncClient",
    "ChatChunk",
    "ChatCompletion",
    "ChatRequest",
    "CheckedText",
    "Client",
    "CompletionRequest",
    "EmbeddingInput",
    "EmbeddingRequest",
    "ExtractedDocument",
    "FactualityCheck",
    "Image",
    "ImagePolicy",
    "InjectionCheck",
    "InputChecks",
    "OutputChecks",
    "PIICheck",
    "RerankRequest",
    "TextChecks",
    "ToxicityCheck",
    "__version__",
]
__all__ += errors.__all__  # a form that type checkers read

# Imported on first use (PEP 562), so that importing an adapter costs little over its framework.
_LAZY = {
    "AsyncClient": "client",
    "Client": "client",
    "Image": "images.image",
    "ImagePolicy": "images.policy",
    "ChatChunk": "api.responses",
    "ChatCompletion": "api.responses",
    "ChatRequest": "api.chat",
    "CompletionRequest": "api.completions",
    "ExtractedDocument": "api.documents",
    "CheckedText": "api.safety",
    "FactualityCheck": "api.safety",
    "InjectionCheck": "api.safety",
    "PIICheck": "api.safety",
    "TextChecks": "api.safety",
    "ToxicityCheck": "api.safety",
    "EmbeddingInput": "api.embeddings",
    "EmbeddingRequest": "api.embeddings",
    "InputChecks": "api.checks",
    "OutputChecks": "api.checks",
    "RerankRequest": "api.rerank",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
