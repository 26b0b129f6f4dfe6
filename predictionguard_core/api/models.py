"""What `GET /models` and `GET /models/{capability}` answer. Source: the API's OpenAPI specification."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from predictionguard_core.api.base import ResponseModel

Capability = Literal[
    "chat-completion",
    "chat-with-image",
    "completion",
    "embedding",
    "embedding-with-image",
    "tokenize",
    "detokenize",
    "rerank",
    "tool_calling",
    "reasoning",
]
CAPABILITIES: tuple[str, ...] = get_args(Capability)


class Model(ResponseModel):
    """A model of the account. `max_context_length` is in tokens; `capabilities` maps a name to whether it can."""

    id: str
    owned_by: str | None = None
    description: str | None = None
    max_context_length: int | None = None
    prompt_format: str | None = None
    capabilities: dict[str, bool] = Field(default_factory=dict)

    def has_capability(self, name: str) -> bool | None:
        """Return whether the model has a capability, such as "chat-with-image"; None if the service does not say."""
        return self.capabilities.get(name, self.capabilities.get(name.replace("-", "_")))


class ModelList(ResponseModel):
    data: list[Model]
