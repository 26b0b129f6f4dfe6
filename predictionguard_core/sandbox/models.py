"""`GET /models`: the models the sandbox stands in for, by the names and context lengths of the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predictionguard_core.sandbox.responses import Response, ServiceError

CAPABILITIES = (
    "chat_completion",
    "chat_with_image",
    "completion",
    "embedding",
    "embedding_with_image",
    "tokenize",
    "detokenize",
    "rerank",
    "tool_calling",
    "reasoning",
)
_WITHOUT_MODELS = ("responses", "responses_with_image")
"""Capabilities of endpoints that the sandbox does not serve: their lists are empty."""
_CREATED = 1730332800
_CHAT = ("chat_completion", "tokenize", "detokenize")


@dataclass(frozen=True)
class Model:
    """One entry of `GET /models`; `context` is in tokens, `dimensions` the length of an embedding."""

    name: str
    owner: str
    context: int
    capabilities: tuple[str, ...]
    dimensions: int = 0
    prompt_format: str = "none"

    def can(self, capability: str) -> bool:
        """Whether the model has a capability, spelled with underscores."""
        return capability in self.capabilities

    def to_json(self) -> dict[str, Any]:
        """Return the model as `GET /models` lists it."""
        return {
            "id": self.name,
            "object": "model",
            "created": _CREATED,
            "owned_by": self.owner,
            "description": f"Sandbox for {self.name}: no model is behind it, rules make the answers.",
            "max_context_length": self.context,
            "prompt_format": self.prompt_format,
            "capabilities": {name: self.can(name) for name in CAPABILITIES},
        }


MODELS = {
    model.name: model
    for model in (
        Model("Qwen2.5-VL-7B-Instruct", "Qwen", 16384, (*_CHAT, "chat_with_image", "tool_calling")),
        Model("llava-1.5-7b-hf", "llava-hf", 4096, (*_CHAT, "chat_with_image"), prompt_format="llava"),
        Model("gpt-oss-120b", "OpenAI", 128000, (*_CHAT, "completion", "tool_calling", "reasoning")),
        Model("gemma-3-27b-it", "google", 32000, (*_CHAT, "completion", "tool_calling"), prompt_format="gemma"),
        Model("Hermes-3-Llama-3.1-8B", "NousResearch", 32768, (*_CHAT, "completion", "tool_calling"), 0, "chatml"),
        Model("Qwen2.5-Coder-14B-Instruct", "Qwen", 20480, (*_CHAT, "completion", "tool_calling")),
        Model("neural-chat-7b-v3-3", "Intel", 32768, (*_CHAT, "completion"), prompt_format="neural chat"),
        Model("bge-m3", "BAAI", 8192, ("embedding", "tokenize"), 1024),
        Model("multilingual-e5-large-instruct", "intfloat", 512, ("embedding", "tokenize"), 1024),
        Model("bridgetower-large-itm-mlm-itc", "BridgeTower", 100, ("embedding", "embedding_with_image"), 512),
        Model("bge-reranker-v2-m3", "BAAI", 8192, ("rerank", "tokenize")),
    )
}


def find(name: str, capability: str) -> Model:
    """Return the model of that name if it has the capability; raise an error that names it otherwise."""
    model = MODELS.get(name)
    if model is None:
        raise ServiceError(f"The model `{name[:100]}` does not exist. GET /models lists the names.", 404)
    if not model.can(capability):
        raise ServiceError(f"model {name!r} does not support {capability.replace('_', ' ')}")
    return model


def get(name: str | None = None) -> Response:
    """Return the response to `GET /models`, `GET /models/{capability}` and `GET /models/{id}`.

    The path spells some capabilities with hyphens and some with underscores; both are taken for all.
    """
    if name in MODELS:
        return Response(200, MODELS[name].to_json())
    capability = None if name is None else name.replace("-", "_")
    if capability not in (None, *CAPABILITIES, *_WITHOUT_MODELS):
        text = f"{(name or '')[:100]!r} is neither a model nor a capability; capabilities are {', '.join(CAPABILITIES)}"
        raise ServiceError(text, 404)
    listed = [model.to_json() for model in MODELS.values() if capability is None or model.can(capability)]
    return Response(200, {"object": "list", "data": listed})
