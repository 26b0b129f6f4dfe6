"""Words of English: splitting, stemming, and the vocabulary the rules share. All rules are linear in the text."""

from __future__ import annotations

import re


def vocabulary(text: str) -> frozenset[str]:
    """Return the words of a list in one string, separated by whitespace."""
    return frozenset(text.split())


STOPWORDS = vocabulary(
    """a about above after again all also am an and any are as at be been being below but by can could did do does
    doing for from get give had has have he her here hers him his how i if in into is it its just let like me more
    most my need no nor not now of off on once only or other our out over own please same she should show so some
    such tell than that the their them then there these they this those to too under until up use using very want
    was we were what when where which while who whom why will with would you your s t re ll ve d m"""
)
NEGATIONS = vocabulary("no not never none nothing cannot can't don't doesn't didn't isn't aren't wasn't won't")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\W]+")
_SENTENCE = re.compile(r"(?:[^.!?\n]|[.!?](?=\w))+[.!?\n]?")  # "19.10" and "cat.jpg" stay whole
_ENDINGS = ("ingly", "edly", "ings", "ing", "ies", "ied", "ely", "est", "ers", "ed", "er", "es", "ly", "e", "s")


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, in order; digits count as words, punctuation does not."""
    return [found.group() for found in _WORD.finditer(text.lower())]


def stem(word: str) -> str:
    """Return a word without its common English endings: `colours`, `color` and `coloring` come out alike."""
    word = word.replace("colour", "color").replace("grey", "gray")
    if len(word) < 4 or not word.isascii():
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            root = word[: -len(ending)]
            if ending in ("ies", "ied"):
                return root + "y"
            if len(root) > 3 and root[-1] == root[-2] and root[-1] not in "aeiouls":
                root = root[:-1]
            return root
    return word


def content_stems(text: str) -> list[str]:
    """Return the stems of the words that carry meaning, in order, repeats included."""
    return [stem(word) for word in split_words(text) if word not in STOPWORDS]


def name_parts(name: str) -> list[str]:
    """Return the words of an identifier: `getWeather_now` gives `get`, `weather`, `now`."""
    return [part.lower() for part in _HUMPS.split(name) if part]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, with their final mark, without surrounding whitespace."""
    return [found.group().strip() for found in _SENTENCE.finditer(text) if found.group().strip()]


def shorten(text: str, limit: int) -> str:
    """Return the text on one line, cut at a word after at most `limit` characters and then marked with `…`."""
    line = " ".join(text[: limit * 4].split())
    if len(line) <= limit:
        return line if len(text) <= limit * 4 else line + "…"
    cut = line[:limit]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut) + "…"


def join_list(items: list[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
