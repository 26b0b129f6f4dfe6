"""`POST /embeddings` and `POST /rerank`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from predictionguard_core.sandbox import catalogue, tokens, vectors, vision
from predictionguard_core.sandbox.catalogue import Model
from predictionguard_core.sandbox.fields import SENT_AS_NULL, Fields, kind
from predictionguard_core.sandbox.reply import Refusal, Reply, identifier, now

MAX_INPUTS = 512
_DIRECTIONS = ("Left", "Right")


def embeddings(body: object) -> Reply:
    """The reply to a decoded body; raises `Refusal`. More than one vector comes last one first."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("model", "input")
    model = catalogue.find(fields.needed("model"), "embedding")
    truncate = bool(fields.flag("truncate"))
    left = fields.choice("truncation_direction", _DIRECTIONS) == "Left"
    given = fields.value["input"]
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list):
        raise fields.wrong("input", "a string or a list")
    if len(given) > MAX_INPUTS:
        raise Refusal(f"input: at most {MAX_INPUTS} inputs are taken, not {len(given)}")
    texts = [_text(item, f"input[{index}]", model) for index, item in enumerate(given)]
    if not model.can("embedding_with_image"):
        texts = [_cut(text, index, model, truncate, left) for index, text in enumerate(texts)]
    data = [{"index": index, "embedding": vectors.embed(text, model.dimensions)} for index, text in enumerate(texts)]
    return Reply(
        200,
        {"id": identifier("emb"), "object": "list", "created": now(), "model": model.name, "data": data[::-1]},
    )


def _text(item: object, place: str, model: Model) -> str:
    """What is embedded for one input: its text, its tokens as text, or the looks of its picture in words."""
    if isinstance(item, str):
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        return _tokens([item])
    if isinstance(item, list):
        return _tokens(item)
    if not isinstance(item, dict):
        raise Refusal(f"{place}: must be a string, tokens, or an object with text or image, not {kind(item)}")
    fields = Fields(item, place)
    text, image = fields.string("text"), fields.string("image")
    if text is None and image is None:
        raise Refusal(f"{place}: has neither text nor image")
    if image is None:
        return text or ""
    if not model.can("embedding_with_image"):
        raise Refusal(f"{place}.image: model {model.name!r} does not support embedding with image")
    try:
        picture = vision.from_base64(image)
    except Refusal as refusal:
        raise Refusal(f"{place}.image: {refusal.text}") from None
    return f"{picture.describe('The image')} {text or ''}".strip()


def _tokens(ids: Sequence[object]) -> str:
    """The text of tokens of this sandbox; ids of another tokenizer are taken as words of their own."""
    try:
        return tokens.text_of(ids)
    except Refusal:
        for item in ids:
            if isinstance(item, bool) or not isinstance(item, int):
                raise Refusal("input: a list of tokens must hold integers only") from None
        return " ".join(f"token{item:x}" for item in ids if isinstance(item, int))


def _cut(text: str, index: int, model: Model, truncate: bool, left: bool) -> str:
    pieces = tokens.split(text)
    if len(pieces) <= model.context:
        return text
    if not truncate:
        excess = f"has {len(pieces)} tokens; {model.name} takes {model.context} unless truncate is set"
        raise Refusal(f"input[{index}]: {excess}")
    return "".join(pieces[-model.context :] if left else pieces[: model.context])


def rerank(body: object) -> Reply:
    """The reply to a decoded body, best document first; raises `Refusal`."""
    fields = Fields(body, nullable=SENT_AS_NULL)
    fields.require("model", "query", "documents")
    model = catalogue.find(fields.needed("model"), "rerank")
    query = fields.needed("query")
    documents = fields.strings("documents")
    if documents is None:
        raise fields.wrong("documents", "a list of strings")
    with_text = bool(fields.flag("return_documents"))
    results: list[dict[str, Any]] = []
    for index, score in enumerate(vectors.relevance(query, documents)):
        text = {"text": documents[index]} if with_text else {}
        results.append({"index": index, "relevance_score": score, **text})
    results.sort(key=lambda result: -result["relevance_score"])
    return Reply(
        200,
        {"id": identifier("rerank"), "object": "list", "created": now(), "model": model.name, "results": results},
    )
