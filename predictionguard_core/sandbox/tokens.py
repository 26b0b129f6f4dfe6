"""Tokens, by a reversible rule in place of a tokenizer: counts are estimates. Also `POST /tokenize` and `/detokenize`.

A token is at most four bytes of UTF-8 from one word, with the space before it. Its id holds those bytes, so that ids
can be turned back into text without a vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from predictionguard_core.sandbox import models
from predictionguard_core.sandbox.responses import Response, ServiceError, head
from predictionguard_core.sandbox.validation import Fields

PATCH = 28
"""Edge in pixels of the square patch that makes one token of an image, as Qwen2.5-VL cuts them."""
MAX_IMAGE_TOKENS = 768
"""What one image counts at most: as if large images were scaled down first, and so that 16 fit one request."""
_PIECE = re.compile(r"[^\S\n]?\w+|[^\S\n]?[^\w\s]|\s", re.ASCII)
_BYTES = 4


def _pieces(text: str) -> Iterable[str]:
    for found in _PIECE.finditer(text):
        word = found.group()
        start, size = 0, 0
        for index, char in enumerate(word):
            width = len(char.encode("utf-8", "surrogatepass"))
            if size + width > _BYTES and size:
                yield word[start:index]
                start, size = index, 0
            # The space before a word is free, or short words would count twice.
            size += 0 if index == 0 and char.isspace() else width
        yield word[start:]


def split(text: str) -> list[str]:
    """Return the tokens of a text, in order; joined they give the text back."""
    return list(_pieces(text))


def count(text: str) -> int:
    """Return how many tokens a text has."""
    return sum(1 for _ in _pieces(text))


def cut(text: str, limit: int) -> str:
    """Return the first `limit` tokens of a text."""
    return "".join(split(text)[:limit])


def count_image(width: int, height: int) -> int:
    """Return how many tokens an image of that size in pixels counts."""
    return min(MAX_IMAGE_TOKENS, max(1, round(width / PATCH)) * max(1, round(height / PATCH)))


def token_id(token: str) -> int:
    """Return the id of a token: its bytes behind a leading one, below 2**53."""
    return int.from_bytes(b"\x01" + token.encode("utf-8", "surrogatepass"), "big")


def text_of(ids: Sequence[object]) -> str:
    """Return the text of a list of ids made by `token_id`; refuse other ids."""
    whole = bytearray()
    for position, value in enumerate(ids):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 < value < 2**56:
            raise ServiceError(f"tokens[{position}]: is not a token id of this sandbox")
        raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
        if raw[0] != 1:
            raise ServiceError(f"tokens[{position}]: is not a token id of this sandbox")
        whole += raw[1:]
    return whole.decode("utf-8", "replace")


def tokenize(body: object) -> Response:
    """Return the tokens of `input`, with their positions in characters."""
    fields = Fields(body)
    fields.require("model", "input")
    model = models.find(fields.required_string("model"), "tokenize")
    listed, position = [], 0
    for token in split(fields.required_string("input")):
        end = position + len(token)
        listed.append({"id": token_id(token), "start": position, "stop": end, "text": token})
        position = end
    return Response(200, {**head("token", "tokens", model=model.name), "tokens": listed})


def detokenize(body: object) -> Response:
    """Return the text of `tokens`, which must be ids that `/tokenize` of this sandbox gave."""
    fields = Fields(body)
    fields.require("model", "tokens")
    model = models.find(fields.required_string("model"), "detokenize")
    text = text_of(fields.items("tokens") or [])
    return Response(200, {**head("token", "tokens", model=model.name), "text": text})
