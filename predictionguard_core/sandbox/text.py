"""Answers in words: they echo the question, quote tool results and contexts, and say what the pictures look like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from predictionguard_core.sandbox import comparing, reading, tokens
from predictionguard_core.sandbox.conversation import Conversation
from predictionguard_core.sandbox.words import STOPWORDS, listed, shorten, vocabulary, words

_ECHO = 500
_RESULT = 1000
_ASKING = vocabulary("what who whom whose which when where why how is are was were do does did can could")
_FACT = re.compile(r"\bmy ([a-z]+(?: [a-z]+)?) (?:is|are|was) ([^.!?,;\n]{1,80})", re.IGNORECASE)
_NAME = re.compile(r"\b(?:i am|i'm) called ([^.!?,;\n]{1,80})", re.IGNORECASE)
_WORD = re.compile(r"\S+\s*|\s+")
_NOTE = "This is a sandbox: rules made this answer, no language model."


def answer(conversation: Conversation) -> str:
    """The answer to a conversation; the same conversation always gets the same one."""
    said = []
    context, question = _context(conversation)
    results = conversation.results
    if results:
        said.append(_results(results))
    pictures = conversation.pictures
    for index, picture in enumerate(pictures, 1):
        said.append(picture.describe("The image" if len(pictures) == 1 else f"Image {index}"))
    if len(pictures) > 1:
        said.insert(len(said) - len(pictures), f"There are {len(pictures)} images.")
        if comparing.asked(question):
            said.append(comparing.compare(pictures))
    if context:
        said.append(reading.quote(context, question) or "The context has no word of the question.")
    recalled = None if results else _recall(conversation)
    if recalled:
        said.append(recalled)
    said.append(echo(question))
    turns = sum(1 for message in conversation.messages if message.role == "user") - 1
    if turns > 0 and not results:
        said.append(f"Before that there {'was 1 turn' if turns == 1 else f'were {turns} turns'} of yours.")
    if not results and not pictures:
        said.append(_NOTE)
    return " ".join(part for part in said if part)


def _context(conversation: Conversation) -> tuple[str, str]:
    """The context that the question or a system message brings, empty if none does, and the bare question."""
    question = conversation.question
    found = reading.split(question)
    if found is not None:
        return found
    orders = "\n".join(message.text for message in conversation.messages if message.role == "system")
    found = reading.split(f"{orders}\nQuestion: {question}") if orders else None
    return (found[0], question) if found is not None else ("", question)


def completion(prompt: str) -> str:
    """What goes on behind a prompt of `POST /completions`."""
    return f" {echo(prompt)} {_NOTE}"


def echo(question: str) -> str:
    """The question quoted, with the words that matter picked out."""
    if not question.strip():
        return ""
    quoted = shorten(question, _ECHO)
    first = (words(question[:200]) or [""])[0]
    asked = question.rstrip().endswith("?") or first in _ASKING
    keywords = list(dict.fromkeys(word for word in words(question[: _ECHO * 2]) if word not in STOPWORDS))[:5]
    mark = "" if quoted[-1] in ".?!…" else "."
    text = f'You {"asked" if asked else "wrote"}: "{quoted}"{mark}'
    return f"{text} Key words: {listed(keywords)}." if keywords else text


def _results(results: Sequence[tuple[str, str]]) -> str:
    said = [f"{name} returned: {shorten(text, _RESULT) or 'nothing'}" for name, text in results]
    return " ".join(each if each[-1] in ".?!…" else f"{each}." for each in said)


def _recall(conversation: Conversation) -> str | None:
    """An earlier `my X is Y` of the user's, when the question asks for `my X`."""
    question = words(conversation.question[:2000])
    if "my" not in question or not _ASKING.intersection(question[:3]) | {"tell", "remember"}.intersection(question):
        return None
    wanted = question[question.index("my") + 1 :]
    earlier = [message.text for message in conversation.messages if message.role == "user"][:-1]
    for text in reversed(earlier):
        facts = [(found.group(1).lower(), found.group(2)) for found in _FACT.finditer(text)]
        facts += [("name", found.group(1)) for found in _NAME.finditer(text)]
        for subject, value in facts:
            if wanted[: len(subject.split())] == subject.split():
                return f"Your {subject} is {value.strip()}, as you said."
    return None


def reasoning(conversation: Conversation, calls: Sequence[str]) -> str:
    """What a reasoning model says to itself first; longer with more effort."""
    thought = ["The user asks: " + (shorten(conversation.question, 80) or "nothing in words") + "."]
    if conversation.options.effort != "low":
        thought.append(f"Tools that fit: {listed(list(calls))}." if calls else "No tool call is needed.")
    if conversation.options.effort == "high":
        thought.append(f"There are {len(conversation.messages)} messages to heed and rules to answer by.")
    return " ".join(thought)


def finish(text: str, stop: Sequence[str], limit: int | None) -> tuple[str, str]:
    """The text cut before the first stop sequence and to `limit` tokens, and the finish reason."""
    places = [place for place in (text.find(sequence) for sequence in stop) if place >= 0]
    if places:
        text = text[: min(places)]
    pieces = tokens.split(text)
    if limit is not None and len(pieces) > limit:
        return "".join(pieces[:limit]), "length"
    return text, "stop"


def pieces(text: str) -> list[str]:
    """The text word by word, blanks kept, as a stream hands it out."""
    return _WORD.findall(text)
