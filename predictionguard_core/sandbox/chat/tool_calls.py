"""Decide which tools a question asks for, and make the calls."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from predictionguard_core.sandbox.chat import arguments
from predictionguard_core.sandbox.chat.request import Conversation, Tool
from predictionguard_core.sandbox.options import ToolCall
from predictionguard_core.sandbox.text import STOPWORDS, content_stems, name_parts, split_words, stem, vocabulary

_SPLIT = re.compile(r"[.?!;]+\s+|\n+|,?\s+(?:and|then|also)\s+(?:also |then )?|&", re.IGNORECASE)
_QUOTES = re.compile(r"\"[^\"\n]{0,500}\"|“[^”\n]{0,500}”|(?<!\w)'[^'\n]{0,500}'(?!\w)")
_GENERIC = frozenset(
    stem(word) for word in vocabulary("tool function call value my make run do given return use input")
)
_SYNONYMS = {
    "+": "add sum plus",
    "plus": "add sum",
    "total": "add sum",
    "-": "subtract minus difference",
    "minus": "subtract difference",
    "*": "multiply product",
    "×": "multiply product",
    "times": "multiply product",
    "x": "multiply product",
    "/": "divide quotient",
    "÷": "divide quotient",
    "divided": "divide",
    "forecast": "weather",
    "temperature": "weather",
    "rain": "weather",
    "sunny": "weather",
    "cost": "price",
    "mail": "email",
}
_OPERATOR = re.compile(r"(?<=[\d)])\s{0,5}([+\-*/×÷x]|times)\s{0,5}(?=[\d(-])", re.IGNORECASE)
_BACK_REFERENCE = re.compile(r"\b(?:it|that|this|the (?:result|sum|total|answer))\b", re.IGNORECASE)
_SHORT_RESULT = 100
_ENOUGH = 3
"""The least score with which a question asks for a tool."""
_OPEN_FIELDS = vocabulary("query question input prompt")

_Fill = Callable[[Tool, str], tuple[dict[str, Any], bool]]
"""Makes a tool's arguments from a text, and says whether the text holds each one that is required."""


def choose(conversation: Conversation) -> list[ToolCall]:
    """Return the calls the model makes now; none if it answers in words.

    A call is made when the question shares words with the tool's name, or several with its description and
    parameters. Once tool results are in, the next step that the question asks for is made, if there is one. With
    `tool_choice` none the answer is in words; with `required` or a named function a call is always made.
    """
    tools, required = list(conversation.tools), conversation.tool_choice == "required"
    if not tools or conversation.tool_choice == "none":
        return []
    question = conversation.question[: arguments.MAX_TEXT]
    if conversation.results and not required:
        return _next_step(conversation, question)
    if conversation.named_tool is not None:
        tools = [tool for tool in tools if tool.name == conversation.named_tool]
    elif conversation.results:
        # Made to call again, a model goes on to a tool that it has not used yet.
        tools = [tool for tool in tools if tool.name not in conversation.called] or tools
    images = conversation.images

    def fill(tool: Tool, text: str) -> tuple[dict[str, Any], bool]:
        return arguments.fill(tool.parameters, text, question, images)

    if required and not conversation.results:
        # Made to call, a model begins with what it can fill in: it takes the photo before it reports on it.
        tools = [tool for tool in tools if _score(tool, question) >= _ENOUGH and _ready(tool, question, fill)] or tools
    wanted = _divide(question, tools, fill) if conversation.named_tool is None else []
    if not wanted:
        best = max(tools, key=lambda tool: _score(tool, question))
        if not required and _score(best, question) < _ENOUGH:
            return []
        wanted = [(best, question)]
    calls: dict[tuple[str, str], ToolCall] = {}
    for tool, text in wanted if conversation.settings.parallel_tool_calls else wanted[:1]:
        call = _call(tool, fill(tool, text)[0])
        calls.setdefault((call.name, call.arguments), call)
    return list(calls.values())


def drop_fields(calls: Sequence[ToolCall], conversation: Conversation) -> list[ToolCall]:
    """Return the calls as vLLM may make them: without `strict`, the first call of a tool misses its last field."""
    lax = {tool.name for tool in conversation.tools if not tool.strict}
    called = {name for message in conversation.messages for name in message.calls.values()}
    changed = []
    for call in calls:
        values = json.loads(call.arguments)
        if call.name in lax - called and values:
            values.popitem()
            call = replace(call, arguments=json.dumps(values, ensure_ascii=False))
        changed.append(call)
    return changed


def _ready(tool: Tool, text: str, fill: _Fill) -> bool:
    """Whether the text holds everything that a tool requires."""
    return not tool.parameters.get("required") or fill(tool, text)[1]


def _call(tool: Tool, values: dict[str, Any]) -> ToolCall:
    return ToolCall(f"chatcmpl-tool-{uuid.uuid4().hex}", tool.name, json.dumps(values, ensure_ascii=False))


def _next_step(conversation: Conversation, question: str) -> list[ToolCall]:
    """Return the next step of a question of several: a tool not called yet, with values of the results."""
    results = [text for _, text in conversation.results]
    for start, end in _clauses(question):
        clause = question[start:end]
        tool = max(conversation.tools, key=lambda tool: _score(tool, clause))
        if tool.name in conversation.called or _score(tool, clause) < _ENOUGH:
            continue
        text = "\n".join([_with_result(clause, results[-1].strip()), *results])[: arguments.MAX_TEXT]
        values, complete = arguments.fill(tool.parameters, text, question, conversation.images)
        if complete or not tool.parameters.get("required"):
            return [_call(tool, values)]
    return []


def _with_result(clause: str, result: str) -> str:
    """Put a short result in place of the word that refers to it: `Multiply it by 2`."""
    return _BACK_REFERENCE.sub(lambda _: result, clause, count=1) if 0 < len(result) <= _SHORT_RESULT else clause


def _score(tool: Tool, text: str) -> int:
    """Return how well a tool fits a text: 3 for a word of its name, 1 for a word of its description or parameters."""
    text = _OPERATOR.sub(lambda found: f" {_SYNONYMS[found.group(1).lower()]} ", text)
    said = set(content_stems(text))
    for word in split_words(text):
        said.update(content_stems(_SYNONYMS.get(word, "")))
    said -= _GENERIC
    named = {stem(word) for word in name_parts(tool.name) if word not in STOPWORDS} - _GENERIC
    listed = tool.parameters.get("properties")
    properties = list(listed)[:200] if isinstance(listed, dict) else []
    known = set(content_stems(tool.description[: arguments.MAX_TEXT]))
    for name in properties:
        known.update(stem(word) for word in name_parts(name) if len(word) > 2)
    known -= named | _GENERIC
    # A tool that takes a question as it is answers whatever touches its subject.
    takes_any = bool(said & known) and "?" in text and bool(_OPEN_FIELDS.intersection(properties))
    whole = 3 * len(tool.name) if len(tool.name) > 2 and tool.name.lower() in text.lower() else 0
    described = len(said & known)
    worth = described + 1 if described > 1 else described if said & named else 0
    return whole + 3 * len(said & named) + max(worth, _ENOUGH if takes_any else 0)


def _divide(question: str, tools: Sequence[Tool], fill: _Fill) -> list[tuple[Tool, str]]:
    """Return the question in parts, each with its tool: another tool, or the same with a full set of new values."""
    groups: list[tuple[Tool, int, int]] = []
    for start, end in _clauses(question):
        clause = question[start:end]
        best = max(tools, key=lambda tool: _score(tool, clause))
        fits = _score(best, clause) >= _ENOUGH
        if not groups:
            if fits:
                groups.append((best, 0, end))
            continue
        tool, first, last = groups[-1]
        other = fits and best is not tool and _score(best, clause) > _score(tool, clause)
        # "6 plus 7, then multiply it by 2": the second step lacks a value that only the first can give.
        if other and _ready(best, clause, fill):
            groups.append((best, start, end))
        elif fill(tool, clause)[1] and fill(tool, question[first:last])[1]:
            groups.append((tool, start, end))
        else:
            groups[-1] = (tool, first, end)
    return [(tool, question[start:end]) for tool, start, end in groups]


def _clauses(question: str) -> list[tuple[int, int]]:
    """Return where the parts of a question begin and end; quotations are kept whole."""
    masked = _QUOTES.sub(lambda found: "x" * len(found.group()), question)
    cuts, start = [], 0
    for found in _SPLIT.finditer(masked):
        cuts.append((start, found.start()))
        start = found.end()
    cuts.append((start, len(question)))
    parted: list[tuple[int, int]] = []
    for index, (start, end) in enumerate(cuts):
        bare = index + 1 < len(cuts) and len(question[slice(*cuts[index + 1])].split()) <= 3
        # "Paris, London and Rome" is a list of three; "San Francisco, CA and Boston" is one of two.
        for comma in re.finditer(r", (?=[A-Z][a-z])", masked[start:end]) if bare else ():
            parted.append((start, start + comma.start()))
            start, end = start + comma.end(), end
        parted.append((start, end))
    return [(start, end) for start, end in parted if question[start:end].strip()][:50]
