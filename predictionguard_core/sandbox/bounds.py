"""Numbers within the bounds of a JSON schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def natural(value: object, default: int) -> int:
    """The value if it is a whole number of at least 0, else the default."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _bound(rules: Mapping[str, Any], name: str) -> float | None:
    value = rules.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return value


def bounded(number: int | float, rules: Mapping[str, Any], *, whole: bool) -> int | float:
    """The number moved into the schema's bounds; whole numbers stay exact."""
    value: int | float = round(number) if whole else number
    low, over = _bound(rules, "minimum"), _bound(rules, "exclusiveMinimum")
    high, under = _bound(rules, "maximum"), _bound(rules, "exclusiveMaximum")
    step = _bound(rules, "multipleOf")
    if low is not None and value < low:
        value = math.ceil(low) if whole else low
    if over is not None and value <= over:
        value = math.floor(over) + 1
    if high is not None and value > high:
        value = math.floor(high) if whole else high
    if under is not None and value >= under:
        value = math.ceil(under) - 1
    if step is not None and step > 0 and value % step:
        value = math.floor(value / step) * step + (step if low is not None or over is not None else 0)
        value = int(value) if float(value).is_integer() else value
    return value
