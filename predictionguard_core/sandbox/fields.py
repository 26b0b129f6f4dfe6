"""Reads the fields of a JSON object and refuses what is of the wrong type or out of range."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from predictionguard_core.sandbox.reply import MISSING, Refusal
from predictionguard_core.sandbox.words import vocabulary

SENT_AS_NULL = vocabulary(
    """frequency_penalty logit_bias max_completion_tokens max_tokens parallel_tool_calls presence_penalty
    reasoning_effort stop stream temperature tool_choice tools top_p top_k echo truncate truncation_direction
    return_documents replace_method"""
)
"""The options which the official client sends as null when it was not given them."""


def kind(value: object) -> str:
    """What JSON calls the type of a decoded value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


class Fields:
    """A JSON object with its place in the body, for refusals that name the field.

    A null is refused, save in the fields of `nullable`, where it counts as absent.
    """

    def __init__(self, value: object, path: str = "", *, nullable: Collection[str] = ()) -> None:
        if not isinstance(value, dict):
            raise Refusal(f"{path or 'request body'}: must be an object, not {kind(value)}")
        self.value = value
        self.path = path
        self.nullable = nullable

    def place(self, name: str) -> str:
        """The field's full name, such as `input.pii`."""
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, name: str, wanted: str) -> Refusal:
        """The refusal of a field of the wrong type or value."""
        value = self.value.get(name)
        return Refusal(f"{self.place(name)}: must be {wanted}, not {kind(value)}")

    def require(self, *names: str) -> None:
        """Refuses the body if one of the fields is absent, or an empty string or list."""
        for name in names:
            if name not in self.value or self.value[name] in ("", []):
                raise Refusal(MISSING)

    def get(self, name: str, wanted: str = "a value") -> object | None:
        """The field's value, or None if it is absent."""
        value: object = self.value.get(name)
        if value is None and name in self.value and name not in self.nullable:
            raise self.wrong(name, wanted)
        return value

    def string(self, name: str) -> str | None:
        """A string, or None if absent."""
        value = self.get(name, "a string")
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "a string")

    def needed(self, name: str) -> str:
        """A string that must be there and must not be null."""
        value = self.value.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string") if name in self.value else Refusal(f"{self.place(name)}: is missing")
        return value

    def flag(self, name: str) -> bool | None:
        """A boolean, or None if absent."""
        value = self.get(name, "a boolean")
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "a boolean")

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number from `low` to `high`, both included, or None if absent."""
        value = self.get(name, f"a number between {low:g} and {high:g}")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, f"a number between {low:g} and {high:g}")
        if not low <= value <= high:
            raise Refusal(f"{self.place(name)}: must be between {low:g} and {high:g}")
        return float(value)

    def integer(self, name: str, low: int) -> int | None:
        """An integer of at least `low`, or None if absent."""
        value = self.get(name, "an integer")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "an integer")
        if value < low:
            raise Refusal(f"{self.place(name)}: must be at least {low}")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """One of `allowed`, or None if absent."""
        value = self.string(name)
        if value is not None and value not in allowed:
            raise Refusal(f"{self.place(name)}: must be one of {', '.join(allowed)}")
        return value

    def items(self, name: str) -> list[object] | None:
        """A list, or None if absent."""
        value = self.get(name, "a list")
        if value is None or isinstance(value, list):
            return value
        raise self.wrong(name, "a list")

    def strings(self, name: str, *, or_one: bool = False) -> list[str] | None:
        """A list of strings, or None if absent; with `or_one` a single string counts as a list of one."""
        wanted = "a string or a list of strings" if or_one else "a list of strings"
        value = self.get(name, wanted)
        if value is None:
            return None
        if or_one and isinstance(value, str):
            return [value]
        if not isinstance(value, list):
            raise self.wrong(name, wanted)
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise Refusal(f"{self.place(name)}[{index}]: must be a string, not {kind(item)}")
        return list(value)

    def object(self, name: str) -> Fields | None:
        """A nested object, or None if absent; nulls inside it are refused."""
        value = self.get(name, "an object")
        return None if value is None else Fields(value, self.place(name))
