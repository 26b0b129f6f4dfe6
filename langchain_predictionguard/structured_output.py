"""Answers that keep to a schema, by way of a tool: the endpoint documents no other."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Literal, get_args

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from langchain_predictionguard import tool_calls
from predictionguard_core.errors import ConfigurationError

_SHOWN = 200

Method = Literal["function_calling", "json_schema", "json_mode"]


def check(method: str, schema: Any) -> None:
    """Raise `ConfigurationError` for what can't be had."""
    if method not in get_args(Method):
        raise ConfigurationError(f"method: {method!r} is none of {', '.join(get_args(Method))}")
    if schema is None:
        raise ConfigurationError("schema: the endpoint has no free JSON mode; give a schema for the answer to keep to")


def parsed(model: Runnable[Any, AIMessage], schema: Any, name: str, *, include_raw: bool) -> Runnable[Any, Any]:
    """`model`, which has to call the tool `name`, followed by what reads the arguments of its call."""
    parser: Runnable[Any, Any]
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        parser = _PydanticParser(tools=[schema], first_tool_only=True)
    else:
        parser = _JSONParser(key_name=name, first_tool_only=True)
    if not include_raw:
        return model | parser
    read = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    unread = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | read.with_fallbacks([unread], exception_key="parsing_error")


class _PydanticParser(PydanticToolsParser):
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        _check_call(result, partial)
        return super().parse_result(result, partial=partial)


class _JSONParser(JsonOutputKeyToolsParser):
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        _check_call(result, partial)
        return super().parse_result(result, partial=partial)


def _check_call(result: list[Generation], partial: bool) -> None:
    # LangChain's parsers answer None here, as if the model had said nothing.
    message = result[0].message if isinstance(result[0], ChatGeneration) else None
    if partial or not isinstance(message, AIMessage) or message.tool_calls:
        return
    if not message.invalid_tool_calls:
        raise OutputParserException(
            f"the model answered in words, not by the schema: {message.text[:_SHOWN]!r}", llm_output=message.text
        )
    call = message.invalid_tool_calls[0]
    raise OutputParserException(
        f"the model's answer does not parse: {call['error'] or 'the arguments are no JSON object'}",
        llm_output=tool_calls.without_spoiler(call["args"] or ""),
    )
