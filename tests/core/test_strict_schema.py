"""Schemas in the form that strict tools take."""

from __future__ import annotations

import copy
from typing import Any, Literal

from pydantic import BaseModel, Field

from predictionguard_core.api.strict_schema import strict_schema


class Item(BaseModel):
    """A line of a receipt."""

    name: str
    price: float = Field(default=0, ge=0)
    note: str | None = None


class Receipt(BaseModel):
    """A receipt."""

    shop: str = "unknown"
    items: list[Item]
    best: Item
    currency: Literal["EUR", "USD"] = "EUR"


def objects(schema: Any) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) and schema.get("type") == "object" else []
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    return found + [each for child in children for each in objects(child)]


def test_every_object_requires_all_of_its_properties_and_no_others() -> None:
    schema = Receipt.model_json_schema()
    before = copy.deepcopy(schema)
    strict = strict_schema(schema)
    assert strict is not None
    assert schema == before
    found = objects(strict)
    assert len(found) == 2
    for each in found:
        assert each["required"] == list(each["properties"])
        assert each["additionalProperties"] is False
    assert "default" not in str(strict)
    assert strict["$defs"]["Item"]["properties"]["price"]["minimum"] == 0


def test_one_of_becomes_any_of_and_a_lone_all_of_is_merged() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"oneOf": [{"type": "string"}, {"type": "null"}], "discriminator": {"propertyName": "kind"}},
            "b": {"allOf": [{"type": "integer"}], "description": "A number."},
        },
    }
    strict = strict_schema(schema)
    assert strict is not None
    assert strict["properties"] == {
        "a": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "b": {"type": "integer", "description": "A number."},
    }


def test_what_strict_mode_cannot_express_is_none() -> None:
    for unstrict in (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object"},
        {},
        {"type": "array"},
        {"not": {"type": "string"}},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"allOf": [{"type": "string"}, {"minLength": 1}]},
    ):
        schema = {"type": "object", "properties": {"a": unstrict}}
        assert strict_schema(schema) is None, unstrict
        assert strict_schema({"type": "object", "properties": {"a": {"type": "array", "items": unstrict}}}) is None
    assert strict_schema({"type": "string"}) is None


class Folder(BaseModel):
    """A folder."""

    name: str
    folders: list[Folder] = []


def test_a_recursive_model_is_strict() -> None:
    strict = strict_schema(Folder.model_json_schema())
    assert strict is not None
    assert strict["required"] == ["name", "folders"]
    assert strict["properties"]["folders"]["items"] == {"$ref": "#/$defs/Folder"}
    assert strict["$defs"]["Folder"]["required"] == ["name", "folders"]
    assert "$ref" not in strict
