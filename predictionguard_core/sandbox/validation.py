"""Read the fields of a JSON object, and refuse what is of the wrong type or out of range."""

from __future__ import annotations

from collections.abc import Sequence

from predictionguard_core.sandbox.responses import MISSING, ServiceError


def kind(value: object) -> str:
    """Return what JSON calls the type of a decoded value, with its article."""
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
    """A JSON object with its path in the body, for errors that name the field.

    An optional field that is null counts as absent: the official SDK sends null for every option that was not set.
    """

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise ServiceError(f"{path or 'request body'}: must be an object, not {kind(value)}")
        self.value = value
        self.path = path

    def path_of(self, name: str) -> str:
        """Return the field's full name, such as `input.pii`."""
        return f"{self.path}.{name}" if self.path else name

    def wrong_type(self, name: str, wanted: str) -> ServiceError:
        """Return the error for a field of the wrong type."""
        return ServiceError(f"{self.path_of(name)}: must be {wanted}, not {kind(self.value.get(name))}")

    def require(self, *names: str) -> None:
        """Refuse the body if one of the fields is absent, or an empty string or list."""
        for name in names:
            if name not in self.value or self.value[name] in ("", []):
                raise ServiceError(MISSING)

    def refuse_null(self, *names: str) -> None:
        """Refuse null in these fields, as vLLM does for a few."""
        for name in names:
            if name in self.value and self.value[name] is None:
                raise self.wrong_type(name, "left out or have a value")

    def string(self, name: str) -> str | None:
        """Return a string, or None if absent."""
        value = self.value.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong_type(name, "a string")

    def required_string(self, name: str) -> str:
        """Return a string that must be there."""
        value = self.value.get(name)
        if isinstance(value, str):
            return value
        raise self.wrong_type(name, "a string") if name in self.value else self._missing(name)

    def boolean(self, name: str) -> bool | None:
        """Return a boolean, or None if absent."""
        value = self.value.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong_type(name, "a boolean")

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number from `low` to `high`, both included, or None if absent."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong_type(name, f"a number between {low:g} and {high:g}")
        if not low <= value <= high:
            raise ServiceError(f"{self.path_of(name)}: must be between {low:g} and {high:g}")
        return float(value)

    def integer(self, name: str, low: int) -> int | None:
        """Return an integer of at least `low`, or None if absent."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong_type(name, "an integer")
        if value < low:
            raise ServiceError(f"{self.path_of(name)}: must be at least {low}")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """Return one of `allowed`, or None if absent."""
        value = self.string(name)
        if value is not None and value not in allowed:
            raise ServiceError(f"{self.path_of(name)}: must be one of {', '.join(allowed)}")
        return value

    def items(self, name: str) -> list[object] | None:
        """Return a list, or None if absent."""
        value = self.value.get(name)
        if value is None or isinstance(value, list):
            return value
        raise self.wrong_type(name, "a list")

    def strings(self, name: str, *, or_one: bool = False) -> list[str] | None:
        """Return a list of strings, or None if absent; with `or_one` a single string counts as a list of one."""
        value = self.value.get(name)
        if value is None:
            return None
        if or_one and isinstance(value, str):
            return [value]
        if not isinstance(value, list):
            raise self.wrong_type(name, "a string or a list of strings" if or_one else "a list of strings")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise ServiceError(f"{self.path_of(name)}[{index}]: must be a string, not {kind(item)}")
        return list(value)

    def object(self, name: str) -> Fields | None:
        """Return a nested object, or None if absent."""
        value = self.value.get(name)
        return None if value is None else Fields(value, self.path_of(name))

    def required_object(self, name: str) -> Fields:
        """Return a nested object that must be there."""
        found = self.object(name)
        if found is None:
            raise self._missing(name)
        return found

    def _missing(self, name: str) -> ServiceError:
        return ServiceError(f"{self.path_of(name)}: is missing")
