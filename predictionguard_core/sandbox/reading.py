"""Finds the context in a prompt, and the sentence of it that says most about the question."""

from __future__ import annotations

from collections.abc import Sequence

from predictionguard_core.sandbox import vectors
from predictionguard_core.sandbox.words import content, sentences, shorten, vocabulary

_MAX = 200_000
_SENTENCES = 500
_QUESTIONS = vocabulary("question query")
_ANSWERS = vocabulary("answer response")
_QUOTE = 400
_BRIEF = 3
"""A line of fewer words, such as a name or a heading, is not quoted while there is another."""


def split(prompt: str) -> tuple[str, str] | None:
    """The context and the question of a prompt that has both; None for any other.

    The context begins at a line such as `Context:` or `Context information is below.` and goes on to one such as
    `Question: …` or `Query: …`; between lines of dashes, it is what stands between them.
    """
    context: list[str] = []
    question: list[str] = []
    where, ruled = "", 0
    for line in prompt[:_MAX].splitlines():
        head, colon, rest = line.partition(":")
        label = head.strip(" #*").lower()
        if where != "question" and _is_context(label):
            where, ruled, context = "context", 0, [rest] if colon else []
        elif where and colon and label in _QUESTIONS:
            where, question = "question", [rest]
        elif where == "question" and colon and label in _ANSWERS:
            break
        elif where == "context" and len(line) > 2 and not line.strip(" -="):
            ruled += 1
        elif where == "context" and ruled < 2:
            context.append(line)
        elif where == "question":
            question.append(line)
    found = "\n".join(context).strip(), "\n".join(question).strip()
    return found if all(found) else None


def _is_context(label: str) -> bool:
    return label == "context" or (label.startswith("context ") and label.endswith(" below."))


def quote(context: str, question: str) -> str | None:
    """The sentence of the context that shares most with the question, as a quotation; None if none shares a word."""
    listed = sentences(context)[:_SENTENCES]
    whole: Sequence[str] = [sentence for sentence in listed if len(sentence.split()) >= _BRIEF] or listed
    scores = vectors.relevance(question, whole)
    best = max(range(len(whole)), key=scores.__getitem__, default=None)
    if best is None or not set(content(question)) & set(content(whole[best])):
        return None
    return f'The context says: "{shorten(whole[best], _QUOTE)}"'
