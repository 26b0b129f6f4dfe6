"""JSON schemas in the form that strict tools take, so that the service enforces them.

Strict mode is OpenAI's (https://platform.openai.com/docs/guides/structured-outputs): every object names all of its
properties as required and allows no others. vLLM enforces the schema of a tool only where it is strict.
"""

from __future__ import annotations

from typing import Any

_SUBSCHEMAS = ("items",)
_LISTS = ("anyOf",)
_MAPS = ("properties", "$defs", "definitions")

_REMOVED = frozenset({"default", "examples", "discriminator", "$schema", "$id", "uniqueItems"})
"""Keywords that strict mode refuses and that say little or nothing about what is valid."""

_UNSUPPORTED = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "contains",
        "prefixItems",
        "minProperties",
        "maxProperties",
    }
)
"""Keywords that strict mode has no form for."""


class _NotStrictError(Exception):
    pass


def strict_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return a copy of a JSON schema that strict mode takes; None for a schema that it can't express.

    It can't express objects with free keys, such as `dict[str, int]`, and values of any type. Properties that have a
    default become required: the model states each of them.
    """
    try:
        strict = _strict(object_schema(schema))
    except _NotStrictError:
        return None
    return strict if strict.get("type") == "object" else None


def object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that is no reference itself, as pydantic's of a recursive model is. Tools need an object here."""
    definition = schema.get("$defs", {}).get(str(schema.get("$ref", "")).removeprefix("#/$defs/"))
    if not isinstance(definition, dict):
        return schema
    return {**{name: value for name, value in schema.items() if name != "$ref"}, **definition}


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict) or schema.keys() & _UNSUPPORTED:
        raise _NotStrictError
    strict = {name: value for name, value in schema.items() if name not in _REMOVED}
    if "$ref" in strict:
        return {"$ref": strict["$ref"]}  # strict mode takes no keywords next to it
    if "oneOf" in strict:
        strict["anyOf"] = [*strict.get("anyOf", []), *strict.pop("oneOf")]
    if "allOf" in strict:
        only = strict.pop("allOf")
        if len(only) != 1 or not isinstance(only[0], dict):
            raise _NotStrictError
        return _strict({**only[0], **strict})
    if not strict.keys() & {"type", "anyOf", "enum", "const"}:
        raise _NotStrictError  # anything at all
    for name in _SUBSCHEMAS:
        if name in strict:
            strict[name] = _strict(strict[name])
    for name in _LISTS:
        if name in strict:
            strict[name] = [_strict(each) for each in strict[name]]
    for name in _MAPS:
        if name in strict:
            strict[name] = {key: _strict(each) for key, each in strict[name].items()}
    types = strict.get("type")
    if types == "array" and "items" not in strict:
        raise _NotStrictError
    if types == "object" or (isinstance(types, list) and "object" in types) or "properties" in strict:
        if strict.get("additionalProperties", False) is not False or "properties" not in strict:
            raise _NotStrictError
        strict["required"] = list(strict["properties"])
        strict["additionalProperties"] = False
    return strict
