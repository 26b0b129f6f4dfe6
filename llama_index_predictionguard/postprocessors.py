"""Prediction Guard's checks as node postprocessors: what they drop or change never reaches the model."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, Node, NodeWithScore, QueryBundle
from pydantic import Field

from llama_index_predictionguard.base import ServiceComponent
from llama_index_predictionguard.calls import check_nodes
from predictionguard_core.api.safety import PIICheck, PIIReplaceMethod
from predictionguard_core.errors import ConfigurationError

CHECKS_KEY = "predictionguard_checks"
"""The metadata key that says what was checked; neither the model nor an embedding model sees it."""


class _Field(NamedTuple):
    """A checked part of a node: a metadata value, or its key; or, without a key, the node's own text."""

    key: str | None
    is_key: bool = False


_TEXT = _Field(None)


class _CheckPostprocessor(ServiceComponent, BaseNodePostprocessor):
    """A postprocessor that checks what the model would see of each node: its text and its metadata."""

    def __init__(self, **options: Any) -> None:  # type checkers would derive one from the fields
        super().__init__(**options)


class PredictionGuardPIIPostprocessor(_CheckPostprocessor):
    """Replace or remove personal data in retrieved nodes before the model sees them.

    Args:
        action: "replace" replaces personal data, "remove" cuts it out, "drop" drops the nodes that hold it.
        replace_method: What replaces it: "random" characters, "fake" values, the "category", or a "mask" (`*`).
        entity_list: Kinds of personal data that are ignored, such as "PHONE_NUMBER".
        api_key: Default: the environment variable PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment variable PREDICTIONGUARD_URL, else the public service.
        timeout: Seconds for one attempt.
        max_retries: Number of retries after a failed attempt.
        default_headers: Headers of every request.
        http_client, async_http_client: Your own httpx clients.

    The text and the metadata that the model sees are checked, all nodes in one request. Changed nodes are copies; the
    index keeps the originals. A metadata value that is no string, such as a list, becomes text if it changes. Each node
    that comes out says under `predictionguard_checks` in its metadata whether it was changed, and what no check looked
    at: images.

    Example:
        >>> pii = PredictionGuardPIIPostprocessor(replace_method="category")
        >>> engine = index.as_query_engine(node_postprocessors=[pii])
    """

    action: Literal["replace", "remove", "drop"] = "replace"
    replace_method: PIIReplaceMethod | None = None
    entity_list: list[str] | None = None

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises this class under."""
        return "PredictionGuardPIIPostprocessor"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.replace_method is not None and self.action != "replace":
            raise ConfigurationError(f'replace_method needs action="replace", got action={self.action!r}')

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = _Texts(nodes)
        return self._checked(texts, self._client().check_pii(texts.to_check, **self._options()))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = _Texts(nodes)
        return self._checked(texts, await self._async_client().check_pii(texts.to_check, **self._options()))

    def _options(self) -> dict[str, Any]:
        replace = self.action == "replace"
        method = self.replace_method if replace else None
        return {"replace": replace, "replace_method": method, "entity_list": self.entity_list}

    def _checked(self, texts: _Texts, results: list[PIICheck]) -> list[NodeWithScore]:
        if self.action == "drop":
            return texts.without([result.has_pii for result in results])
        return texts.with_texts([_without_pii(result) for result in results])


class PredictionGuardInjectionPostprocessor(_CheckPostprocessor):
    """Drop retrieved nodes that hold a prompt injection.

    Args:
        threshold: Probability from which a text counts as a prompt injection.
        api_key: Default: the environment variable PREDICTIONGUARD_API_KEY.
        base_url: Default: the environment variable PREDICTIONGUARD_URL, else the public service.
        timeout: Seconds for one attempt.
        max_retries: Number of retries after a failed attempt.
        default_headers: Headers of every request.
        http_client, async_http_client: Your own httpx clients.

    The text and the metadata that the model sees are checked, all nodes in one request. Each node that comes out says
    under `predictionguard_checks` in its metadata what no check looked at: images.

    Example:
        >>> engine = index.as_query_engine(node_postprocessors=[PredictionGuardInjectionPostprocessor()])
    """

    threshold: float = Field(default=0.5, ge=0, le=1)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that LlamaIndex serialises this class under."""
        return "PredictionGuardInjectionPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = _Texts(nodes)
        found = self._client().check_injection(texts.to_check)
        return texts.without([each.probability >= self.threshold for each in found])

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = _Texts(nodes)
        found = await self._async_client().check_injection(texts.to_check)
        return texts.without([each.probability >= self.threshold for each in found])


class _Texts:
    """The texts of nodes that the model would see. Blank ones are left out: the service refuses them."""

    def __init__(self, nodes: list[NodeWithScore]) -> None:
        check_nodes(nodes)
        self._nodes = nodes
        self._places: list[tuple[int, _Field]] = []
        self.to_check: list[str] = []
        for number, each in enumerate(nodes):
            texts = {_TEXT: each.node.get_content(metadata_mode=MetadataMode.NONE), **_metadata(each.node)}
            for field, text in texts.items():
                if text.strip():
                    self._places.append((number, field))
                    self.to_check.append(text)

    def without(self, dropped: list[bool]) -> list[NodeWithScore]:
        """Return the nodes except those with a dropped text."""
        numbers = {number for (number, _), is_dropped in zip(self._places, dropped, strict=True) if is_dropped}
        return [_marked(each, False) for number, each in enumerate(self._nodes) if number not in numbers]

    def with_texts(self, texts: list[str]) -> list[NodeWithScore]:
        """Return the nodes with other texts. Those that change are copies."""
        changes: dict[int, dict[_Field, str]] = {}
        for (number, field), old, new in zip(self._places, self.to_check, texts, strict=True):
            if new != old:
                changes.setdefault(number, {})[field] = new
        return [_marked(each, number in changes, changes.get(number)) for number, each in enumerate(self._nodes)]


def _metadata(node: BaseNode) -> dict[_Field, str]:
    """Return the metadata that the model sees, as LlamaIndex writes it into the prompt.

    A key that is an identifier, such as `file_name`, is a loader's own and no text.
    """
    seen = {key: value for key, value in node.metadata.items() if key not in node.excluded_llm_metadata_keys}
    keys = {_Field(key, is_key=True): key for key in seen if not key.isidentifier()}
    return keys | {_Field(key): str(value) for key, value in seen.items() if value is not None}


def _changed_metadata(metadata: dict[str, Any], changes: dict[_Field, str]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in metadata.items():
        new_key = changes.get(_Field(key, is_key=True), key)
        while new_key in changed:  # two keys may have the same replacement
            new_key += "*"
        changed[new_key] = changes.get(_Field(key), value)
    return changed


def _marked(each: NodeWithScore, is_changed: bool, changes: dict[_Field, str] | None = None) -> NodeWithScore:
    # No deep copy: an `IndexNode` may hold a whole query engine.
    hidden_keys = {
        name: list(dict.fromkeys([*getattr(each.node, name), CHECKS_KEY]))
        for name in ("excluded_llm_metadata_keys", "excluded_embed_metadata_keys")
    }
    changes = changes or {}
    node = each.node.model_copy(update={"metadata": _changed_metadata(each.node.metadata, changes), **hidden_keys})
    if _TEXT in changes:
        node.set_content(changes[_TEXT])
    before = node.metadata.get(CHECKS_KEY)
    node.metadata[CHECKS_KEY] = {
        "changed": is_changed or (isinstance(before, dict) and before.get("changed") is True),
        "unchecked": ["image"] if _has_image(node) else [],
    }
    return NodeWithScore(node=node, score=each.score)


def _has_image(node: BaseNode) -> bool:
    return isinstance(node, ImageNode) or (isinstance(node, Node) and node.image_resource is not None)


def _without_pii(result: PIICheck) -> str:
    if result.new_prompt is not None:
        return result.new_prompt
    # Entities may overlap: an e-mail address holds a URL.
    kept, end = [], 0
    for entity in sorted(result.entities, key=lambda each: (each.start, each.end)):
        if entity.end > end:
            kept.append(result.prompt[end : max(entity.start, end)])
            end = entity.end
    return "".join([*kept, result.prompt[end:]])
