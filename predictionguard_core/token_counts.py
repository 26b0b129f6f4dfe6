"""Offline estimates of the tokens of a request.

A text has one token for every four bytes of UTF-8. An image has as many as in Qwen2.5-VL, the service's vision model:
one for each tile of 28 by 28 pixels, its edges rounded to whole tiles, and two more. Source: the model's published
image processor, with patches of 14 pixels, merged two by two, 4 to 16,384 tiles. Other models differ. Use this for
planning; the `usage` of a response has the exact number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from predictionguard_core.api.chat import ImagePart, Message, TextPart
from predictionguard_core.errors import ContentError
from predictionguard_core.images.policy import ImagePolicy
from predictionguard_core.images.prepare import estimate_size

PER_MESSAGE = 4
"""Tokens of a message besides its content: its role, its beginning and its end."""

UNKNOWN_SIZE = 1026
"""Tokens of an image whose size needs a file, a download or a rendered page: those of 896 by 896 pixels."""

_TILE = 28
_FEWEST, _MOST = 4, 16_384


def estimate_text_tokens(text: str) -> int:
    """Return the estimated tokens of a text."""
    return math.ceil(len(text.encode("utf-8", "replace")) / 4)


def estimate_image_tokens(width: int, height: int) -> int:
    """Return the estimated tokens of an image of this width and height in pixels."""
    tiles = max(1, round(width / _TILE)) * max(1, round(height / _TILE))
    return min(max(tiles, _FEWEST), _MOST) + 2


def estimate_message_tokens(
    messages: list[Message], policy: ImagePolicy, count_text: Callable[[str], int] = estimate_text_tokens
) -> int:
    """Return the estimated tokens of messages with images and tool calls. `count_text` counts those of a text."""
    return sum(_message_tokens(message, policy, count_text) for message in messages)


def _message_tokens(message: Message, policy: ImagePolicy, count_text: Callable[[str], int]) -> int:
    parts = [TextPart(text=message.content)] if isinstance(message.content, str) else message.content
    calls = [call.function.name + call.function.arguments for call in message.tool_calls or []]
    return PER_MESSAGE + sum(_part_tokens(part, policy, count_text) for part in parts) + sum(map(count_text, calls))


def _part_tokens(part: TextPart | ImagePart, policy: ImagePolicy, count_text: Callable[[str], int]) -> int:
    if isinstance(part, TextPart):
        return count_text(part.text)
    try:
        size = estimate_size(part.image_url.url, policy)
    except ContentError as error:
        raise error.with_location(*part.location) from None
    return estimate_image_tokens(*size) if size else UNKNOWN_SIZE
