"""Personal data, by rules for text in English: found, and replaced.

Known types: EMAIL_ADDRESS, PHONE_NUMBER, US_SSN, CREDIT_CARD (with a valid Luhn digit), IP_ADDRESS, and
PERSON where a title or "my name is" stands before the name. Every pattern is bounded.
"""

from __future__ import annotations

import ipaddress
import random
import re
import string
from collections.abc import Collection
from typing import NamedTuple

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}"
    r"|\+\d{1,3}(?:[ .-]?\d{2,4}){2,5})(?![\w-])"
)
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]{4,39})(?![\w:]|\.\d)")
_WORD = r"[^\W\d_][\w'’-]{0,40}"
_PERSON = re.compile(
    rf"\b(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? |(?:[Mm]y name is|I am called|I'm called) )({_WORD}(?: {_WORD}){{0,2}})"
)
METHODS = ("random", "fake", "category", "mask")
_FAKES = {
    "EMAIL_ADDRESS": ("alex.morgan@example.com", "sam.taylor@example.org", "kim.lee@example.net"),
    "PHONE_NUMBER": ("202-555-0117", "202-555-0143", "202-555-0186"),
    "US_SSN": ("900-12-3456", "900-45-6789", "900-78-9012"),
    "CREDIT_CARD": ("4111 1111 1111 1111", "5500 0000 0000 0004", "3400 0000 0000 009"),
    "IP_ADDRESS": ("192.0.2.10", "198.51.100.24", "203.0.113.7"),
    "PERSON": ("Alex Morgan", "Sam Taylor", "Kim Lee"),
}


class Finding(NamedTuple):
    """One piece of personal data: positions in characters, the end not included."""

    start: int
    end: int
    type: str


def find(text: str, ignored: Collection[str] = ()) -> list[Finding]:
    """Return personal data in order, without overlaps and without the `ignored` types."""
    found = [Finding(match.start(), match.end(), "EMAIL_ADDRESS") for match in _EMAIL.finditer(text)]
    found += [Finding(m.start(), m.end(), "CREDIT_CARD") for m in _CARD.finditer(text) if _luhn(m.group())]
    found += [Finding(match.start(), match.end(), "US_SSN") for match in _SSN.finditer(text)]
    found += [Finding(match.start(), match.end(), "IP_ADDRESS") for match in _IP.finditer(text) if _ip(match.group())]
    found += [Finding(match.start(), match.end(), "PHONE_NUMBER") for match in _PHONE.finditer(text)]
    for match in _PERSON.finditer(text):
        name = _capitalised(match.group(1))
        if name:
            found.append(Finding(match.start(1), match.start(1) + len(name), "PERSON"))
    kept: list[Finding] = []
    for finding in sorted(item for item in found if item.type not in ignored):
        if not kept or finding.start >= kept[-1].end:
            kept.append(finding)
    return kept


def replace(text: str, method: str, ignored: Collection[str] = ()) -> str:
    """Return the text with personal data replaced.

    `mask` puts `*`, `category` the type in angle brackets, `fake` an invented value of the type, `random`
    random characters of the same shape. The same text always comes out the same.
    """
    dice = random.Random(text.encode("utf-8", "surrogatepass"))  # noqa: S311 (nothing is kept secret with it)
    pieces, last = [], 0
    for finding in find(text, ignored):
        pieces += [
            text[last : finding.start],
            _replacement(text[finding.start : finding.end], finding.type, method, dice),
        ]
        last = finding.end
    return "".join([*pieces, text[last:]])


def _replacement(value: str, kind: str, method: str, dice: random.Random) -> str:
    if method == "mask":
        return "*"
    if method == "category":
        return f"<{kind}>"
    if method == "fake":
        return dice.choice([fake for fake in _FAKES[kind] if fake != value])
    while True:
        drawn = "".join(_random_char(char, dice) for char in value)
        if drawn != value:
            return drawn


def _random_char(char: str, dice: random.Random) -> str:
    if char.isdigit():
        return dice.choice(string.digits)
    if char.isalpha():
        return dice.choice(string.ascii_uppercase if char.isupper() else string.ascii_lowercase)
    return char


def _capitalised(name: str) -> str:
    """Return the leading words that begin with a capital; a name in small letters counts as one word."""
    kept: list[str] = []
    for word in name.split(" "):
        if not word[0].isupper() and kept:
            break
        kept.append(word)
        if not word[0].isupper():
            break
    return " ".join(kept)


def _luhn(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [sum(divmod(digit * 2, 10)) if index % 2 else digit for index, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and any(digits)


def _ip(text: str) -> bool:
    if "." not in text and sum(char.isalnum() for char in text) < 2:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
