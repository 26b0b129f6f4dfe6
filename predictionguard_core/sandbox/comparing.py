"""Says what sets pictures apart and what they share: light, size and main colours."""

from __future__ import annotations

from collections.abc import Sequence

from predictionguard_core.sandbox.vision import Picture
from predictionguard_core.sandbox.words import listed, stem, vocabulary, words

_ASKS = frozenset(
    stem(word)
    for word in vocabulary(
        """compare comparison differ different difference differences alike common same similar both between versus
        brighter brightest lighter lightest darker darkest larger largest bigger biggest smaller smallest"""
    )
)
_LEAST = 0.02
"""Differences of lightness below this are none that an eye would name."""


def asked(question: str) -> bool:
    """Whether a question wants pictures compared."""
    return any(stem(word) in _ASKS for word in words(question))


def compare(pictures: Sequence[Picture]) -> str:
    """One sentence on two pictures or more, such as `Compared: image 2 is lighter, …`."""
    said = [_light(pictures), _size(pictures), _colours(pictures)]
    return f"Compared: {'; '.join(part for part in said if part)}."


def _light(pictures: Sequence[Picture]) -> str:
    lights = [picture.light for picture in pictures if picture.light is not None]
    if len(lights) < len(pictures):
        return ""
    if max(lights) - min(lights) < _LEAST:
        return "all are equally light" if len(pictures) > 2 else "both are equally light"
    lightest, darkest = lights.index(max(lights)) + 1, lights.index(min(lights)) + 1
    if len(pictures) == 2:
        return f"image {lightest} is lighter, image {darkest} darker"
    return f"image {lightest} is the lightest, image {darkest} the darkest"


def _size(pictures: Sequence[Picture]) -> str:
    sizes = [picture.stored[0] * picture.stored[1] for picture in pictures]
    if min(sizes) == max(sizes):
        return "all have the same number of pixels" if len(pictures) > 2 else "both have the same number of pixels"
    more = "more" if len(pictures) == 2 else "the most"
    return f"image {sizes.index(max(sizes)) + 1} has {more} pixels"


def _colours(pictures: Sequence[Picture]) -> str:
    named = [[name for name, _ in picture.main_colours] for picture in pictures]
    shared = [name for name in named[0] if all(name in each for each in named)]
    if not all(named):
        return ""
    whose = "both" if len(pictures) == 2 else "all"
    if shared:
        return f"{listed(shared)} {'is a main colour' if len(shared) == 1 else 'are main colours'} of {whose}"
    return f"no main colour is in {whose}"
