"""`POST /embeddings` and `POST /rerank`: vectors and scores from words, alike where the words are alike."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any

from predictionguard_core.sandbox import models, tokens
from predictionguard_core.sandbox.models import Model
from predictionguard_core.sandbox.responses import Response, ServiceError, head
from predictionguard_core.sandbox.text import STOPWORDS, split_words, stem
from predictionguard_core.sandbox.validation import Fields, kind
from predictionguard_core.sandbox.vision import images

MAX_INPUTS = 30
"""As many as the service's official client sends."""
_STOPWORD_WEIGHT = 0.1
_PAIR_WEIGHT = 0.35
_LETTERS_WEIGHT = 0.15


def embeddings(body: object) -> Response:
    """Return a vector for each input, last one first: the service does not promise an order."""
    fields = Fields(body)
    fields.require("model", "input")
    model = models.find(fields.required_string("model"), "embedding")
    truncate = bool(fields.boolean("truncate"))
    # The specification writes "Left" and "Right", the official SDK sends "right".
    left = fields.choice("truncation_direction", ("Left", "Right", "left", "right")) in ("Left", "left")
    as_base64 = fields.choice("encoding_format", ("float", "base64")) == "base64"
    if fields.integer("dimensions", 1) not in (None, model.dimensions):
        raise ServiceError(f"dimensions: {model.name} only gives vectors of {model.dimensions} numbers")
    inputs = fields.value["input"]
    if isinstance(inputs, str):
        inputs = [inputs]
    if not isinstance(inputs, list):
        raise fields.wrong_type("input", "a string or a list")
    if len(inputs) > MAX_INPUTS:
        raise ServiceError(f"input: at most {MAX_INPUTS} inputs are taken, not {len(inputs)}")
    texts = [_text(item, f"input[{index}]", model) for index, item in enumerate(inputs)]
    if not model.can("embedding_with_image"):
        texts = [_truncate(text, index, model, truncate, left) for index, text in enumerate(texts)]
    data: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        vector = embed(text, model.dimensions)
        packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if as_base64 else vector
        data.append({"index": index, "object": "embedding", "embedding": packed})
    return Response(200, {**head("emb", "list", model=model.name), "data": data[::-1]})


def _text(item: object, path: str, model: Model) -> str:
    """Return what is embedded for one input: its text, its tokens as text, or the description of its image."""
    if isinstance(item, str):
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        return _text_of_tokens([item])
    if isinstance(item, list):
        return _text_of_tokens(item)
    if not isinstance(item, dict):
        raise ServiceError(f"{path}: must be a string, tokens, or an object with text or image, not {kind(item)}")
    fields = Fields(item, path)
    text, image = fields.string("text"), fields.string("image")
    if text is None and image is None:
        raise ServiceError(f"{path}: has neither text nor image")
    if image is None:
        return text or ""
    if not model.can("embedding_with_image"):
        raise ServiceError(f"{path}.image: model {model.name!r} does not support embedding with image")
    try:
        seen = images.from_base64(image)
    except ServiceError as error:
        raise ServiceError(f"{path}.image: {error.text}") from None
    return f"{seen.describe('The image')} {text or ''}".strip()


def _text_of_tokens(ids: Sequence[object]) -> str:
    """Return the text of tokens of this sandbox; ids of another tokenizer are taken as words of their own."""
    try:
        return tokens.text_of(ids)
    except ServiceError:
        if any(isinstance(item, bool) or not isinstance(item, int) for item in ids):
            raise ServiceError("input: a list of tokens must hold integers only") from None
        return " ".join(f"token{item}" for item in ids)


def _truncate(text: str, index: int, model: Model, truncate: bool, left: bool) -> str:
    pieces = tokens.split(text)
    if len(pieces) <= model.context:
        return text
    if not truncate:
        excess = f"has {len(pieces)} tokens; {model.name} takes {model.context} unless truncate is set"
        raise ServiceError(f"input[{index}]: {excess}")
    return "".join(pieces[-model.context :] if left else pieces[: model.context])


def rerank(body: object) -> Response:
    """Return the documents' scores, best first."""
    fields = Fields(body)
    fields.require("model", "query", "documents")
    model = models.find(fields.required_string("model"), "rerank")
    query = fields.required_string("query")
    documents = fields.strings("documents")
    if documents is None:
        raise fields.wrong_type("documents", "a list of strings")
    with_text = bool(fields.boolean("return_documents"))
    results: list[dict[str, Any]] = []
    for index, score in enumerate(relevance(query, documents)):
        text = {"text": documents[index]} if with_text else {}
        results.append({"index": index, "relevance_score": score, **text})
    results.sort(key=lambda result: -result["relevance_score"])
    return Response(200, {**head("rerank", "list", model=model.name), "results": results})


def embed(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 in which each word, pair of words and run of three letters has its place and sign.

    Texts that share words lie close; a text without any word still has a vector of its own.
    """
    vector = [0.0] * dimensions
    for feature, weight in _features(text).items():
        digest = hashlib.blake2b(feature.encode(), digest_size=8).digest()
        index = int.from_bytes(digest[:7], "big") % dimensions
        vector[index] += weight if digest[7] & 1 else -weight
    norm = math.sqrt(sum(value * value for value in vector))
    if not norm:
        return embed(f"text {hashlib.blake2b(text.encode()).hexdigest()}", dimensions)
    return [round(value / norm, 8) for value in vector]


def _features(text: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    stems = [(stem(word), word in STOPWORDS) for word in split_words(text)]
    for index, (word, common) in enumerate(stems):
        weight = _STOPWORD_WEIGHT if common else 1.0
        counts[word] = counts.get(word, 0.0) + weight
        if common:
            continue
        if index + 1 < len(stems) and not stems[index + 1][1]:
            pair = f"{word} {stems[index + 1][0]}"
            counts[pair] = counts.get(pair, 0.0) + _PAIR_WEIGHT
        for start in range(len(word) - 2):
            letters = f"#{word[start : start + 3]}"
            counts[letters] = counts.get(letters, 0.0) + _LETTERS_WEIGHT
    # A word said ten times means more than one said once, but not ten times as much.
    return {feature: math.log1p(weight) for feature, weight in counts.items()}


def relevance(query: str, documents: Sequence[str]) -> list[float]:
    """Return how relevant each document is to a query, 0 to 1: the share of the query's words in it.

    A word counts more the fewer documents have it; words that only begin alike count a little.
    """
    listed = [Counter(stem(word) for word in split_words(document)) for document in documents]
    asked = {stem(word): _STOPWORD_WEIGHT if word in STOPWORDS else 1.0 for word in split_words(query)}
    weights = {
        word: weight * (1 + math.log((1 + len(listed)) / (1 + sum(word in counts for counts in listed))))
        for word, weight in asked.items()
    }
    whole = sum(weights.values())
    scores = []
    for counts in listed:
        starts = {word[:4] for word in counts if len(word) > 4}
        found = 0.0
        for word, weight in weights.items():
            if word in counts:
                found += weight * (1 - 0.3 / counts[word])
            elif len(word) > 4 and word[:4] in starts:
                found += weight * 0.2
        # Of two documents with the same words of the query the shorter one is more about them.
        length = 1 / (1 + math.log1p(sum(counts.values())) / 20)
        scores.append(round(min(0.999, found / whole * length) if whole else 0.0, 8))
    return scores
