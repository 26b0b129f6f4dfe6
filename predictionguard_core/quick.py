"""Pydantic at the speed of a stream and of an import.

Each object of a stream is like one that was validated, with a few fields of its own. Making one walks its annotations,
validators and defaults, which for a chunk of one word costs more than receiving it. `model_copy` does the same as is
done here, at three times the price. And a class that pydantic builds at its first object is known before that.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)

_set = object.__setattr__


def like(model: M, fields: dict[str, Any]) -> M:
    """A copy of `model` with other values in `fields`, which nobody validates. Mutable values have to be given anew.

    Which fields were set is remembered for all copies together.
    """
    made = object.__new__(type(model))
    _set(made, "__dict__", {**model.__dict__, **fields})
    _set(made, "__pydantic_fields_set__", model.__pydantic_fields_set__)
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made


class Signature:
    """The `__signature__` of a class that pydantic builds late, which is built when a notebook or a tool asks for it.

    Until then pydantic would show that of the base class.
    """

    def __get__(self, instance: object, owner: type[BaseModel]) -> Any:
        if instance is None:
            owner.model_rebuild(raise_errors=False)  # which puts pydantic's own in this one's place
            built = vars(owner).get("__signature__", self)
            if built is not self:
                return built.__get__(None, owner)
        raise AttributeError("__signature__")


def sign(cls: type[BaseModel]) -> None:
    """Give a class that is not built yet its `Signature`."""
    if "__signature__" not in vars(cls):
        cls.__signature__ = Signature()  # type: ignore[assignment]
