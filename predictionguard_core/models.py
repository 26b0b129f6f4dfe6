"""Published facts about models, known without asking the service.

No model is a default: models come and go, and `Client.models()` lists those of an account. Source: the service's
documentation (model tables of 2026-03). Where its pages differ, the smaller context window is taken: a request that
fits it fits the other.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model can do. `context_window` is in tokens. None: the documentation does not say."""

    context_window: int | None = None
    accepts_images: bool = False
    supports_tools: bool | None = None
    is_reasoning: bool | None = None


_MODELS = {
    "Qwen2.5-VL-7B-Instruct": ModelFacts(context_window=16_384, accepts_images=True),
    "llava-1.5-7b-hf": ModelFacts(accepts_images=True),
    "gpt-oss-120b": ModelFacts(context_window=64_000, supports_tools=True, is_reasoning=True),
    "gemma-3-27b-it": ModelFacts(context_window=32_000),
    "Hermes-3-Llama-3.1-8B": ModelFacts(context_window=32_768),
    "Qwen2.5-Coder-14B-Instruct": ModelFacts(context_window=20_480),
    "neural-chat-7b-v3-3": ModelFacts(context_window=32_768),
    "bge-m3": ModelFacts(context_window=8_192),
    "multilingual-e5-large-instruct": ModelFacts(context_window=512),
    "bridgetower-large-itm-mlm-itc": ModelFacts(context_window=100, accepts_images=True),
}


def known_model(name: str) -> ModelFacts | None:
    """Return the published facts about a model, or None if the documentation does not name it."""
    return _MODELS.get(name)
