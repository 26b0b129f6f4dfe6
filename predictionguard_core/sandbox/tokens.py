"""Tokens, by a reversible rule in place of a tokenizer: counts are estimates.

A token is at most four bytes of UTF-8 from one word, with the space before it. Its id holds those
bytes, so that ids can be turned back into text without a vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from predictionguard_core.sandbox.reply import Refusal

PATCH = 28
"""Edge in pixels of the square patch that makes one token of an image, as Qwen2.5-VL cuts them."""
MAX_IMAGE_TOKENS = 768
"""What one image counts at most: as if large pictures were scaled down first, and so that 16 fit one request."""
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
    """The tokens of a text, in order; joined they give the text back."""
    return list(_pieces(text))


def count(text: str) -> int:
    """How many tokens a text has."""
    return sum(1 for _ in _pieces(text))


def image(width: int, height: int) -> int:
    """How many tokens a picture of that size in pixels counts."""
    return min(MAX_IMAGE_TOKENS, max(1, round(width / PATCH)) * max(1, round(height / PATCH)))


def number(token: str) -> int:
    """The id of a token: its bytes behind a leading one, below 2**53."""
    return int.from_bytes(b"\x01" + token.encode("utf-8", "surrogatepass"), "big")


def text_of(ids: Sequence[object]) -> str:
    """The text of a list of ids made by `number`; refuses ids that are none."""
    whole = bytearray()
    for position, value in enumerate(ids):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 < value < 2**56:
            raise Refusal(f"tokens[{position}]: is not a token id of this sandbox")
        raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
        if raw[0] != 1:
            raise Refusal(f"tokens[{position}]: is not a token id of this sandbox")
        whole += raw[1:]
    return whole.decode("utf-8", "replace")
