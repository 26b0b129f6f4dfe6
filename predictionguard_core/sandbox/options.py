"""The options of a chat or completion request, checked against the ranges of the specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from predictionguard_core.sandbox.fields import Fields, kind
from predictionguard_core.sandbox.reply import Refusal

PII_METHODS = ("random", "fake", "category", "mask")
_NO_CHECKED_STREAM = "factuality and toxicity checks are not supported when streaming is enabled"


@dataclass(frozen=True)
class Checks:
    """Which checks the request asks for; `ignored` are entity types the PII check leaves alone."""

    injection: bool = False
    pii: str | None = None
    pii_method: str = "random"
    ignored: frozenset[str] = frozenset()
    toxicity: bool = False
    factuality: bool = False


@dataclass(frozen=True)
class Options:
    """The options the sandbox heeds; the others are checked and then have no effect."""

    limit: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    parallel: bool = True
    effort: str | None = None
    checks: Checks = field(default_factory=Checks)


@dataclass(frozen=True)
class Tool:
    """A function the model may call; `parameters` is its JSON schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def read_options(fields: Fields) -> Options:
    """Checks every documented option of a body and keeps those that matter here."""
    fields.number("temperature", 0, 2)
    fields.number("top_p", 0, 1)
    fields.number("frequency_penalty", -2, 2)
    fields.number("presence_penalty", -2, 2)
    fields.integer("top_k", -1)
    bias = fields.object("logit_bias")
    for token in bias.value if bias else ():
        if bias is not None and bias.number(token, -100, 100) is None:
            raise bias.wrong(token, "a number")
    stop = fields.strings("stop", or_one=True) or []
    if "" in stop:
        raise Refusal("stop: must not hold an empty string")
    limit = fields.integer("max_completion_tokens", 1)
    older = fields.integer("max_tokens", 1)
    stream_options = fields.object("stream_options")
    options = Options(
        limit=limit if limit is not None else older,
        stop=tuple(stop),
        stream=bool(fields.flag("stream")),
        include_usage=bool(stream_options.flag("include_usage")) if stream_options else False,
        parallel=fields.flag("parallel_tool_calls") is not False,
        effort=fields.choice("reasoning_effort", ("low", "medium", "high")),
        checks=_checks(fields),
    )
    if options.stream and (options.checks.toxicity or options.checks.factuality):
        raise Refusal(_NO_CHECKED_STREAM)
    return options


def _checks(fields: Fields) -> Checks:
    given, asked = fields.object("input"), fields.object("output")
    checks = Checks()
    if given is not None:
        checks = Checks(
            injection=bool(given.flag("block_prompt_injection")),
            pii=given.choice("pii", ("block", "replace")),
            pii_method=given.choice("pii_replace_method", PII_METHODS) or "random",
            ignored=frozenset(given.strings("entity_list") or ()),
        )
    if asked is not None:
        toxicity, factuality = bool(asked.flag("toxicity")), bool(asked.flag("factuality"))
        checks = Checks(checks.injection, checks.pii, checks.pii_method, checks.ignored, toxicity, factuality)
    return checks


def read_tools(fields: Fields) -> tuple[Tool, ...]:
    """The functions in `tools`."""
    tools = []
    for index, item in enumerate(fields.items("tools") or []):
        tool = Fields(item, f"tools[{index}]")
        if tool.needed("type") != "function":
            raise Refusal(f"{tool.path}.type: must be function")
        function = tool.object("function")
        if function is None:
            raise Refusal(f"{tool.path}.function: is missing")
        function.flag("strict")
        parameters = function.object("parameters")
        name = function.needed("name")
        if not name:
            raise Refusal(f"{function.path}.name: must not be empty")
        tools.append(Tool(name, function.string("description") or "", parameters.value if parameters else {}))
    return tuple(tools)


def read_choice(fields: Fields, tools: tuple[Tool, ...]) -> tuple[str, str | None]:
    """`none`, `auto` or `required`, and the name of the one function that is forced, if any."""
    value = fields.get("tool_choice")
    if value is None:
        return "auto", None
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            raise Refusal("tool_choice: must be none, auto, required, or a function")
        if value == "required" and not tools:
            raise Refusal("tool_choice: tools must be set")
        return value, None
    if not isinstance(value, dict):
        raise Refusal(f"tool_choice: must be none, auto, required, or a function, not {kind(value)}")
    choice = Fields(value, "tool_choice")
    if choice.needed("type") != "function":
        raise Refusal("tool_choice.type: must be function")
    function = choice.object("function")
    if function is None:
        raise Refusal("tool_choice.function: is missing")
    name = function.needed("name")
    if not tools:
        raise Refusal("tool_choice: tools must be set")
    if name not in {tool.name for tool in tools}:
        raise Refusal(f"tool_choice.function.name: {name[:60]!r} is not among the tools")
    return "required", name
