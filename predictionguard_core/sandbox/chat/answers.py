"""Answers in words: they echo the question, quote tool results and contexts, and say what was seen of the images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from predictionguard_core.sandbox import tokens
from predictionguard_core.sandbox.chat.request import Conversation
from predictionguard_core.sandbox.retrieval import relevance
from predictionguard_core.sandbox.text import (
    STOPWORDS,
    content_stems,
    join_list,
    shorten,
    split_sentences,
    split_words,
    vocabulary,
)

NOTE = "This is a sandbox: rules made this answer, no AI model was asked."
_ECHO = 500
_RESULT = 1000
_QUOTE = 400
_MAX_CONTEXT = 200_000
_MAX_SENTENCES = 500
_BRIEF = 3
"""A line of fewer words, such as a name or a heading, is not quoted while there is another."""
_INTERROGATIVES = vocabulary("what who whom whose which when where why how is are was were do does did can could")
_QUESTION_LABELS = vocabulary("question query")
_ANSWER_LABELS = vocabulary("answer response")
_WORD = re.compile(r"\S+\s*|\s+")


def answer(conversation: Conversation) -> str:
    """Return the answer to a conversation; the same conversation always gets the same one."""
    said = []
    context, question = _context(conversation)
    results = conversation.results
    if results:
        said.append(_quote_results(results))
    images = conversation.images
    if len(images) > 1:
        said.append(f"There are {len(images)} images.")
    for index, image in enumerate(images, 1):
        said.append(image.describe("The image" if len(images) == 1 else f"Image {index}"))
    if context:
        said.append(quote(context, question) or "The context has no word of the question.")
    said.append(echo(question))
    turns = sum(1 for message in conversation.messages if message.role == "user") - 1
    if turns > 0 and not results:
        said.append(f"Before that there {'was 1 turn' if turns == 1 else f'were {turns} turns'} of yours.")
    return " ".join(part for part in (*said, NOTE) if part)


def completion(prompt: str) -> str:
    """Return what continues a prompt of `POST /completions`."""
    return f" {echo(prompt)} {NOTE}"


def echo(question: str) -> str:
    """Return the question quoted, with the words that matter picked out."""
    if not question.strip():
        return ""
    quoted = shorten(question, _ECHO)
    first = (split_words(question[:200]) or [""])[0]
    asked = question.rstrip().endswith("?") or first in _INTERROGATIVES
    keywords = list(dict.fromkeys(word for word in split_words(question[: _ECHO * 2]) if word not in STOPWORDS))[:5]
    mark = "" if quoted[-1] in ".?!…" else "."
    text = f'You {"asked" if asked else "wrote"}: "{quoted}"{mark}'
    return f"{text} Key words: {join_list(keywords)}." if keywords else text


def _quote_results(results: Sequence[tuple[str, str]]) -> str:
    said = [f"{name} returned: {shorten(text, _RESULT) or 'nothing'}" for name, text in results]
    return " ".join(each if each[-1] in ".?!…" else f"{each}." for each in said)


def _context(conversation: Conversation) -> tuple[str, str]:
    """Return the context of the question or of a system message, empty if there is none, and the bare question."""
    question = conversation.question
    found = split_context(question)
    if found is not None:
        return found
    roles = ("system", "developer")
    orders = "\n".join(message.text for message in conversation.messages if message.role in roles)
    found = split_context(f"{orders}\nQuestion: {question}") if orders else None
    return (found[0], question) if found is not None else ("", question)


def split_context(prompt: str) -> tuple[str, str] | None:
    """Return the context and the question of a prompt that has both, else None.

    The context begins at a line such as `Context:` or `Context information is below.` and ends at one such as
    `Question: …` or `Query: …`; between lines of dashes, it is what stands between them.
    """
    context: list[str] = []
    question: list[str] = []
    section, rulers = "", 0
    for line in prompt[:_MAX_CONTEXT].splitlines():
        head, colon, rest = line.partition(":")
        label = head.strip(" #*").lower()
        is_context = label == "context" or (label.startswith("context ") and label.endswith(" below."))
        if section != "question" and is_context:
            section, rulers, context = "context", 0, [rest] if colon else []
        elif section and colon and label in _QUESTION_LABELS:
            section, question = "question", [rest]
        elif section == "question" and colon and label in _ANSWER_LABELS:
            break
        elif section == "context" and len(line) > 2 and not line.strip(" -="):
            rulers += 1
        elif section == "context" and rulers < 2:
            context.append(line)
        elif section == "question":
            question.append(line)
    found = "\n".join(context).strip(), "\n".join(question).strip()
    return found if all(found) else None


def quote(context: str, question: str) -> str | None:
    """Return the sentence of the context that shares most with the question, or None if none shares a word."""
    listed = split_sentences(context)[:_MAX_SENTENCES]
    whole: Sequence[str] = [sentence for sentence in listed if len(sentence.split()) >= _BRIEF] or listed
    scores = relevance(question, whole)
    best = max(range(len(whole)), key=scores.__getitem__, default=None)
    if best is None or not set(content_stems(question)) & set(content_stems(whole[best])):
        return None
    return f'The context says: "{shorten(whole[best], _QUOTE)}"'


def reasoning(conversation: Conversation, tools: Sequence[str]) -> str:
    """Return what a reasoning model says to itself first; it is longer with more effort."""
    thought = ["The user asks: " + (shorten(conversation.question, 80) or "nothing in words") + "."]
    if conversation.settings.effort not in ("minimal", "low"):
        thought.append(f"Tools that fit: {join_list(list(tools))}." if tools else "No tool call is needed.")
    if conversation.settings.effort == "high":
        thought.append(f"There are {len(conversation.messages)} messages to heed and rules to answer by.")
    return " ".join(thought)


def finish(text: str, stop: Sequence[str], limit: int | None) -> tuple[str, str]:
    """Return the text cut before the first stop sequence and to `limit` tokens, and the finish reason."""
    positions = [position for position in map(text.find, stop) if position >= 0]
    text = text[: min(positions, default=len(text))]
    if limit is not None and tokens.count(text) > limit:
        return tokens.cut(text, limit), "length"
    return text, "stop"


def pieces(text: str) -> list[str]:
    """Return the text word by word, whitespace kept, as a stream sends it."""
    return _WORD.findall(text)
