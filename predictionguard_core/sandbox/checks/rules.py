"""The checks for injection, personal data, toxicity and factuality, each a short list of rules in English."""

from __future__ import annotations

from dataclasses import dataclass

from predictionguard_core.sandbox.checks import pii
from predictionguard_core.sandbox.responses import ServiceError
from predictionguard_core.sandbox.text import (
    NEGATIONS,
    STOPWORDS,
    content_stems,
    split_sentences,
    split_words,
    stem,
    vocabulary,
)

PII_DETECTED = "pii detected"
INJECTION_DETECTED = "prompt injection detected"
TOXICITY_FAILED = "failed toxicity check"
FACTUALITY_FAILED = "failed factuality check"
_THRESHOLD = 0.5

_DROP = vocabulary("ignore disregard forget override bypass skip violate")
_WHOSE = vocabulary("previous prior above earlier preceding your all any system the every these those my")
_ORDERS = vocabulary(
    "instruction instructions prompt prompts rule rules guideline guidelines directions restrictions safety"
)
_SHOW = vocabulary("reveal show print repeat output display leak tell expose")
_INJECTIONS = (
    "do anything now",
    "developer mode",
    "jailbreak",
    "you are now dan",
    "no longer bound by",
    "without any restrictions",
    "pretend you have no",
    "act as if you have no",
    "new system prompt",
)
_TOXIC = vocabulary(
    """idiot idiots stupid moron morons imbecile dumbass bastard bastards bitch bitches asshole assholes fuck fucking
    fucked fucker shit shitty bullshit crap scum retard retarded slut whore loser losers hate"""
)
_TOXIC_PHRASES = (
    "kill you",
    "kill him",
    "kill her",
    "kill them",
    "kill yourself",
    "hurt someone",
    "hurt you",
    "shut up",
    "go to hell",
    "piece of garbage",
    "beat you up",
    "hate you",
)
_MILD = frozenset(("hate", "crap", "loser", "losers", "stupid"))
_LABELS = vocabulary("question query claim statement answer instruction instructions")
_COPULAS = vocabulary("is are was were")


@dataclass(frozen=True)
class Checks:
    """The checks a request asks for; `ignored` are entity types the PII check leaves alone."""

    injection: bool = False
    pii: str | None = None
    pii_method: str = "random"
    ignored: frozenset[str] = frozenset()
    toxicity: bool = False
    factuality: bool = False


def check_input(text: str, wanted: Checks) -> str:
    """Return the text, with personal data replaced if asked for; raise the error of a failed check."""
    if wanted.injection and injection(text) >= _THRESHOLD:
        raise ServiceError(INJECTION_DETECTED)
    if wanted.pii == "block" and pii.find(text, wanted.ignored):
        raise ServiceError(PII_DETECTED)
    if wanted.pii == "replace":
        return pii.replace(text, wanted.pii_method, wanted.ignored)
    return text


def check_output(answer: str, prompt: str, wanted: Checks) -> None:
    """Raise the error of a failed check.

    Factuality is judged where the prompt holds a context: the lines from one that begins with `Context:` up
    to one that begins with `Question:`, `Claim:` or the like. The other lines and the answer must not contradict it.
    """
    if wanted.toxicity and toxicity(answer) >= _THRESHOLD:
        raise ServiceError(TOXICITY_FAILED)
    if wanted.factuality:
        context, claims = _sections(prompt)
        if context and contradicts(context, claims):
            raise ServiceError(FACTUALITY_FAILED)


def injection(text: str) -> float:
    """Return how sure the rules are that a text tries to override instructions, 0 to 1."""
    listed = split_words(text)
    for index, word in enumerate(listed):
        near = listed[index + 1 : index + 7]
        if word in _DROP and _ORDERS.intersection(near) and _WHOSE.intersection(near):
            return 0.98
        if word in _SHOW and any(near[place : place + 2] == ["system", "prompt"] for place in range(len(near))):
            return 0.95
    joined = " ".join(listed)
    return 0.9 if any(phrase in joined for phrase in _INJECTIONS) else 0.02


def toxicity(text: str) -> float:
    """Return how toxic a text is by its words, 0 to 1; each word or phrase brings it closer to 1."""
    listed = split_words(text)
    joined = f" {' '.join(listed)} "
    clean = 0.99
    for word in listed:
        if word in _TOXIC:
            clean *= 0.75 if word in _MILD else 0.4
    for phrase in _TOXIC_PHRASES:
        if f" {phrase} " in joined:
            clean *= 0.4
    return round(1 - clean, 4)


def factuality(reference: str, text: str) -> float:
    """Return how well a reference supports a text, 0 to 1: by the words they share, less if it contradicts."""
    said, known = set(content_stems(text)), set(content_stems(reference))
    support = len(said & known) / len(said) if said else 1.0
    support = 0.1 + 0.88 * support
    return round(support * 0.2 if contradicts(reference, text) else support, 4)


def contradicts(reference: str, text: str) -> bool:
    """Whether a statement in the text contradicts the sentence of the reference it shares most words with.

    It does if only one of the two is negated, if both have numbers and none in common, or if both say
    "A is B" of the same A with nothing in common in B. Questions contradict nothing.
    """
    known = [(sentence, set(content_stems(sentence))) for sentence in split_sentences(reference)[:500]]
    for claim in split_sentences(text)[:200]:
        stems = set(content_stems(claim))
        if claim.endswith("?") or not stems or not known:
            continue
        nearest, its = max(known, key=lambda item: len(item[1] & stems))
        if not its & stems:
            continue
        if _same_subject(claim, nearest) and not _predicate(claim) & _predicate(nearest):
            return True
        if len(its & stems) * 2 < min(len(stems), len(its)):
            continue
        if _numbers(claim) and _numbers(nearest) and not _numbers(claim) & _numbers(nearest):
            return True
        if bool(NEGATIONS & set(split_words(claim))) != bool(NEGATIONS & set(split_words(nearest))):
            return True
    return False


def _numbers(text: str) -> set[str]:
    return {word for word in split_words(text.replace(",", "")) if word.isdigit()}


def _halves(sentence: str) -> tuple[set[str], set[str]]:
    """Return the stems before and after `is`; both are empty without one."""
    listed = split_words(sentence)
    for index, word in enumerate(listed):
        if word in _COPULAS:
            before = {stem(item) for item in listed[:index] if item not in STOPWORDS}
            behind = {stem(item) for item in listed[index + 1 :] if item not in STOPWORDS}
            return before, behind
    return set(), set()


def _predicate(sentence: str) -> set[str]:
    return _halves(sentence)[1]


def _same_subject(one: str, other: str) -> bool:
    (first, said), (second, told) = _halves(one), _halves(other)
    return bool(first) and first == second and bool(said) and bool(told)


def _sections(prompt: str) -> tuple[str, str]:
    """Return the lines of the context, and all other lines; a line such as `Question:` ends a context."""
    context: list[str] = []
    others: list[str] = []
    inside = False
    for line in prompt.splitlines():
        head, colon, rest = line.partition(":")
        label = head.strip(" #*").lower() if colon else ""
        if label == "context":
            inside = True
        elif label in _LABELS:
            inside = False
        else:
            rest = line
        (context if inside else others).append(rest)
    return "\n".join(context).strip(), "\n".join(others).strip()
