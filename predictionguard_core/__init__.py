"""Prediction Guard's vision endpoint, without a framework: the core that both integrations share."""

import logging
from typing import TYPE_CHECKING

from predictionguard_core import errors, lazy
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

# Quiet, until an application asks for the line a request that is there at DEBUG.
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

# Imported by who asks for it: importing an adapter shall cost little over its framework.
_LATER = {
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

__getattr__ = lazy.attributes(__name__, {name: f"{__name__}.{room}" for name, room in _LATER.items()})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
