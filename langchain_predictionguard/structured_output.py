"""Answers that follow a schema, by way of a tool that the model has to call."""

from __future__ import annotations

import functools
import operator
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal, get_args

from langchain_core.exceptions import ModelRefusalError, OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    JsonOutputToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import AddableDict, Runnable, RunnableGenerator
from langchain_core.utils.pydantic import is_basemodel_subclass
from typing_extensions import is_typeddict  # a dependency of pydantic

from langchain_predictionguard.tool_calls import CUT_OFF, TRUNCATION_MARKER, to_tool
from predictionguard_core.api.strict_schema import strict_schema
from predictionguard_core.errors import ConfigurationError

_SHOWN = 200

Method = Literal["function_calling", "json_schema", "json_mode"]


def check_arguments(method: str, schema: Any) -> None:
    """Raise `ConfigurationError` for a method that does not exist, or a missing schema."""
    if method not in get_args(Method):
        raise ConfigurationError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if schema is None:
        raise ConfigurationError("schema is missing: the API has no free JSON mode, so pass a schema for the answer")


def schema_tool(schema: Any, *, strict: bool | None) -> dict[str, Any]:
    """Return the tool for a schema. With `strict` the service enforces it, if the schema can be made strict."""
    tool = to_tool(schema)
    function = tool["function"]
    has_fields = bool((function.get("parameters") or {}).get("properties"))
    if isinstance(schema, type) and not (has_fields or is_basemodel_subclass(schema) or is_typeddict(schema)):
        # LangChain reads the constructor of such a class; without fields every answer would be {}.
        raise ConfigurationError(
            f"schema must be a class with fields, got {schema.__name__}. Derive it from pydantic.BaseModel"
        )
    if not strict:
        return tool if strict is None else {**tool, "function": {**function, "strict": False}}
    parameters = strict_schema(function.get("parameters") or {})
    if parameters is None:
        return tool
    return {**tool, "function": {**function, "parameters": parameters, "strict": True}}


def response_format_tool(response_format: Any) -> dict[str, Any] | None:
    """Return a strict tool for a `response_format` of type json_schema, which the API does not document.

    LangChain's agents send one for models that they know by name (`ProviderStrategy`). Returns None for plain text.
    """
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    described = response_format.get("json_schema") if kind == "json_schema" else None
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        raise ConfigurationError(
            "response_format must be of type 'json_schema', with a schema; or use with_structured_output(schema)"
        )
    name = described.get("name") or described["schema"].get("title") or "response"
    function = {
        "name": name,
        "description": described.get("description") or "Give the final answer.",
        "parameters": described["schema"],
    }
    return schema_tool({"type": "function", "function": function}, strict=described.get("strict", True))


def with_parser(model: Runnable[Any, AIMessage], schema: Any, name: str, *, include_raw: bool) -> Runnable[Any, Any]:
    """Return `model`, which has to call the tool `name`, followed by a parser of its call's arguments."""
    parser: Runnable[Any, Any]
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        parser = _PydanticParser(tools=[schema], first_tool_only=True)
    else:
        parser = _JSONParser(key_name=name, first_tool_only=True)
    if not include_raw:
        return model | parser

    def parse(chunks: Iterator[AIMessage]) -> Iterator[dict[str, Any]]:
        seen: list[Any] = []
        for chunk in chunks:
            seen.append(chunk)
            yield AddableDict(raw=chunk)
        yield _parsed(parser, seen)

    async def aparse(chunks: AsyncIterator[AIMessage]) -> AsyncIterator[dict[str, Any]]:
        seen: list[Any] = []
        async for chunk in chunks:
            seen.append(chunk)
            yield AddableDict(raw=chunk)
        yield _parsed(parser, seen)

    # LangChain's own form of this, with fallbacks, raises in a stream.
    return model | RunnableGenerator(parse, aparse, name="parse_structured_output")


def _parsed(parser: Runnable[Any, Any], chunks: list[Any]) -> AddableDict:
    try:
        return AddableDict(parsed=parser.invoke(_sum(chunks)), parsing_error=None)
    except Exception as error:
        return AddableDict(parsed=None, parsing_error=error)


def _sum(chunks: list[Any]) -> Any:
    return functools.reduce(operator.add, chunks)


class _Strict(JsonOutputToolsParser):
    """Raises for an answer without a valid call, plain and streamed. LangChain's parsers return None for it."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        message = result[0].message if isinstance(result[0], ChatGeneration) else None
        if isinstance(message, AIMessage) and not message.tool_calls:
            if partial:
                return None  # LangChain's would raise for a refusal of which only the beginning has come
            raise _error(message)
        return super().parse_result(result, partial=partial)

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:  # noqa: A002 - LangChain's name
        seen: list[Any] = []
        yield from super()._transform(_noted(input, seen))
        self._parse_whole(seen)

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:  # noqa: A002
        seen: list[Any] = []
        async for parsed in super()._atransform(_anoted(input, seen)):
            yield parsed
        self._parse_whole(seen)

    def _parse_whole(self, chunks: list[Any]) -> None:
        if chunks:
            self.parse_result([ChatGeneration(message=_sum(chunks))])


class _PydanticParser(_Strict, PydanticToolsParser):
    pass


class _JSONParser(_Strict, JsonOutputKeyToolsParser):
    pass


def _noted(chunks: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    for chunk in chunks:
        seen.append(chunk)
        yield chunk


async def _anoted(chunks: AsyncIterator[Any], seen: list[Any]) -> AsyncIterator[Any]:
    async for chunk in chunks:
        seen.append(chunk)
        yield chunk


def _error(message: AIMessage) -> Exception:
    refusal = message.additional_kwargs.get("refusal")
    if refusal:
        return ModelRefusalError(f"the model refused to answer: {refusal}", raw_message=message)
    is_cut = message.response_metadata.get("finish_reason") == "length"
    if not message.invalid_tool_calls:
        remedy = CUT_OFF if is_cut else "use a model that supports tools, or say in the prompt what to extract"
        return OutputParserException(
            f"the model answered in words, not by the schema: {message.text[:_SHOWN]!r}. Remedy: {remedy}",
            llm_output=message.text,
        )
    call = message.invalid_tool_calls[0]
    written = (call["args"] or "").removesuffix(TRUNCATION_MARKER)
    problem = CUT_OFF if is_cut else call["error"] or "the arguments are not valid JSON"
    return OutputParserException(f"the model's answer can't be parsed: {problem}", llm_output=written)
