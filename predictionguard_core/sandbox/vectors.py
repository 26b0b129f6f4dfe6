"""Embeddings and relevance from words: hashed, weighted, and alike where the words are alike."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence

from predictionguard_core.sandbox.words import STOPWORDS, stem, words

_STOPWORD = 0.1
_PAIR = 0.35
_LETTERS = 0.15


def embed(text: str, dimensions: int) -> list[float]:
    """A vector of length 1 in which each word, pair of words and run of three letters has its place and sign.

    Texts that share words lie close; a text without any word still has a vector of its own.
    """
    vector = [0.0] * dimensions
    for feature, weight in _features(text).items():
        digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        place = int.from_bytes(digest[:7], "big") % dimensions
        vector[place] += weight if digest[7] & 1 else -weight
    norm = math.sqrt(sum(value * value for value in vector))
    if not norm:
        return embed(f"text {hashlib.blake2b(text.encode('utf-8', 'surrogatepass')).hexdigest()}", dimensions)
    return [round(value / norm, 8) for value in vector]


def _features(text: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    stems = [(stem(word), word in STOPWORDS) for word in words(text)]
    for index, (word, common) in enumerate(stems):
        weight = _STOPWORD if common else 1.0
        counts[word] = counts.get(word, 0.0) + weight
        if common:
            continue
        if index + 1 < len(stems) and not stems[index + 1][1]:
            pair = f"{word} {stems[index + 1][0]}"
            counts[pair] = counts.get(pair, 0.0) + _PAIR
        for start in range(len(word) - 2):
            letters = f"#{word[start : start + 3]}"
            counts[letters] = counts.get(letters, 0.0) + _LETTERS
    # A word said ten times means more than one said once, but not ten times as much.
    return {feature: math.copysign(math.log1p(abs(weight)), weight) for feature, weight in counts.items()}


def relevance(query: str, documents: Sequence[str]) -> list[float]:
    """How relevant each document is to a query, 0 to 1: the share of the query's words in it.

    A word counts the more, the fewer documents have it; words that only begin alike count a little.
    """
    listed = [Counter(stem(word) for word in words(document)) for document in documents]
    asked = {stem(word): _STOPWORD if word in STOPWORDS else 1.0 for word in words(query)}
    weights = {
        word: weight * (1 + math.log((1 + len(listed)) / (1 + sum(word in counts for counts in listed))))
        for word, weight in asked.items()
    }
    whole = sum(weights.values())
    scores = []
    for counts in listed:
        starts = {word[:4] for word in counts if len(word) > 4}
        found = 0.0
        for word, weight in weights.items():
            if word in counts:
                found += weight * (1 - 0.3 / counts[word])
            elif len(word) > 4 and word[:4] in starts:
                found += weight * 0.2
        # Of two documents with the same words of the query the shorter one is more about them.
        length = 1 / (1 + math.log1p(sum(counts.values())) / 20)
        scores.append(round(min(0.999, found / whole * length) if whole else 0.0, 8))
    return scores
