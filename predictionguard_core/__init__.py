"""Prediction Guard's vision endpoint, without a framework: the core that both integrations share."""

import logging

from predictionguard_core.client import AsyncClient, Client
from predictionguard_core.errors import *  # noqa: F403
from predictionguard_core.errors import __all__ as _errors
from predictionguard_core.images import Image
from predictionguard_core.policy import ImagePolicy
from predictionguard_core.version import __version__
from predictionguard_core.wire import ChatChunk, ChatCompletion, ChatRequest, InputChecks, OutputChecks

# Quiet, until an application asks for the line a request that is there at DEBUG.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "AsyncClient",
    "ChatChunk",
    "ChatCompletion",
    "ChatRequest",
    "Client",
    "Image",
    "ImagePolicy",
    "InputChecks",
    "OutputChecks",
    "__version__",
    *_errors,
]
