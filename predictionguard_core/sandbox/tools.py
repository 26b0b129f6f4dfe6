"""Decides which tools a question asks for, and makes the calls."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from predictionguard_core.sandbox.conversation import Conversation
from predictionguard_core.sandbox.facts import MAX_TEXT, Facts
from predictionguard_core.sandbox.options import Tool
from predictionguard_core.sandbox.schemas import Filler
from predictionguard_core.sandbox.words import STOPWORDS, content, parts, stem, vocabulary, words

_SPLIT = re.compile(r"[.?!;]+\s+|\n+|,?\s+(?:and|then|also)\s+(?:also |then )?|&", re.IGNORECASE)
_QUOTES = re.compile(r"\"[^\"\n]{0,500}\"|“[^”\n]{0,500}”|(?<!\w)'[^'\n]{0,500}'(?!\w)")
_GENERIC = frozenset(
    stem(word) for word in vocabulary("tool function call value my make run do given return use input")
)
_MEANS = {
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
_SIGNS = re.compile(r"(?<=[\d)])\s{0,5}([+\-*/×÷x]|times)\s{0,5}(?=[\d(-])", re.IGNORECASE)
_BACK = re.compile(r"\b(?:it|that|this|the (?:result|sum|total|answer))\b", re.IGNORECASE)
_SHORT = 100
_ENOUGH = 3
_OPEN = vocabulary("query question input prompt")


Fill = Callable[[Tool, str], tuple[dict[str, Any], bool]]
"""Makes a tool's arguments from a text, and says whether the text founds each one that is required."""


@dataclass(frozen=True)
class Call:
    """One tool call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str

    def wire(self) -> dict[str, Any]:
        """The call as a message carries it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def choose(conversation: Conversation) -> list[Call]:
    """The calls the model makes now; empty if it answers in words.

    A call is made when the question shares words with the tool's name, or several with its description
    and parameters. Once tool results are in, it goes on to the next step that the question asks for and
    that no call was made for, if there is one. With `tool_choice` none it answers in words; `required` or a
    named function makes it call in any case.
    """
    tools, forced = list(conversation.tools), conversation.choice == "required"
    if not tools or conversation.choice == "none":
        return []
    question = conversation.question[:MAX_TEXT]
    if conversation.results and not forced:
        return _go_on(conversation, question)
    if conversation.forced is not None:
        tools = [tool for tool in tools if tool.name == conversation.forced]
    elif conversation.results:
        # Made to call once more, a model goes on to a tool that it has not used yet.
        called = conversation.called
        tools = [tool for tool in tools if tool.name not in called] or tools
    pictures = conversation.pictures

    def fill(tool: Tool, text: str) -> tuple[dict[str, Any], bool]:
        return Filler(tool.parameters, Facts(text), Facts(question), pictures).arguments()

    if forced and not conversation.results:
        # Made to call, a model begins with what it can fill: it takes the photo before it reports on it.
        tools = [tool for tool in tools if score(tool, question) >= _ENOUGH and _ready(tool, question, fill)] or tools
    wanted: list[tuple[Tool, str]] = []
    if conversation.forced is None:
        wanted = _divide(question, tools, fill)
    if not wanted:
        best = max(tools, key=lambda tool: score(tool, question))
        if not forced and score(best, question) < _ENOUGH:
            return []
        wanted = [(best, question)]
    calls: dict[tuple[str, str], Call] = {}
    for tool, text in wanted if conversation.options.parallel else wanted[:1]:
        call = _call(tool, fill(tool, text)[0])
        calls.setdefault((call.name, call.arguments), call)
    return list(calls.values())


def _ready(tool: Tool, text: str, fill: Fill) -> bool:
    """Whether the text founds all that a tool has to be given."""
    return not tool.parameters.get("required") or fill(tool, text)[1]


def _call(tool: Tool, arguments: dict[str, Any]) -> Call:
    return Call(f"chatcmpl-tool-{uuid.uuid4().hex}", tool.name, json.dumps(arguments, ensure_ascii=False))


def _go_on(conversation: Conversation, question: str) -> list[Call]:
    """The next step of a question of several: a tool not called yet, with values of the results at hand."""
    called = conversation.called
    results = [text for _, text in conversation.results]
    for start, end in _clauses(question):
        clause = question[start:end]
        tool = max(conversation.tools, key=lambda tool: score(tool, clause))
        if tool.name in called or score(tool, clause) < _ENOUGH:
            continue
        said = "\n".join([_with_result(clause, results[-1].strip()), *results])[:MAX_TEXT]
        arguments, founded = Filler(tool.parameters, Facts(said), Facts(question), conversation.pictures).arguments()
        if founded or not tool.parameters.get("required"):
            return [_call(tool, arguments)]
    return []


def _with_result(clause: str, result: str) -> str:
    """`Multiply it by 2` speaks of the result: where that is short, it is put in its place."""
    return _BACK.sub(lambda _: result, clause, count=1) if 0 < len(result) <= _SHORT else clause


def score(tool: Tool, text: str) -> int:
    """How well a tool fits a text: three for a word of its name, one for a word of its description or parameters."""
    text = _SIGNS.sub(lambda found: f" {_MEANS[found.group(1).lower()]} ", text)
    said = set(content(text))
    for word in words(text):
        said.update(content(_MEANS.get(word, "")))
    said -= _GENERIC
    named = {stem(word) for word in parts(tool.name) if word not in STOPWORDS} - _GENERIC
    listed = tool.parameters.get("properties")
    properties = list(listed)[:200] if isinstance(listed, dict) else []
    known = set(content(tool.description[:MAX_TEXT]))
    for name in properties:
        known.update(stem(word) for word in parts(name) if len(word) > 2)
    known -= named | _GENERIC
    # A tool that takes a question as it is answers whatever touches its subject.
    takes_any = bool(said & known) and "?" in text and bool(_OPEN.intersection(properties))
    whole = 3 * len(tool.name) if len(tool.name) > 2 and tool.name.lower() in text.lower() else 0
    described = len(said & known)
    worth = described + 1 if described > 1 else described if said & named else 0
    return whole + 3 * len(said & named) + max(worth, _ENOUGH if takes_any else 0)


def _divide(question: str, tools: Sequence[Tool], fill: Fill) -> list[tuple[Tool, str]]:
    """The question in parts, each with its tool: another tool, or the same with a full set of new values."""
    groups: list[tuple[Tool, int, int]] = []
    for start, end in _clauses(question):
        clause = question[start:end]
        best = max(tools, key=lambda tool: score(tool, clause))
        fits = score(best, clause) >= _ENOUGH
        if not groups:
            if fits:
                groups.append((best, 0, end))
            continue
        tool, first, last = groups[-1]
        other = fits and best is not tool and score(best, clause) > score(tool, clause)
        # "6 plus 7, then multiply it by 2": the second step lacks a value that only the first can give.
        if other and _ready(best, clause, fill):
            groups.append((best, start, end))
        elif fill(tool, clause)[1] and fill(tool, question[first:last])[1]:
            groups.append((tool, start, end))
        else:
            groups[-1] = (tool, first, end)
    return [(tool, question[start:end]) for tool, start, end in groups]


def _clauses(question: str) -> list[tuple[int, int]]:
    """Where the parts of a question begin and end; quotations are kept whole."""
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
