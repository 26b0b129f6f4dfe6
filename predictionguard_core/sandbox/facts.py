"""Values a reader would pick from a question: numbers, quotations, names, places, dates, addresses.

Every pattern is bounded, so the work grows with the length of the text and no faster.
"""

from __future__ import annotations

import re
from functools import cached_property

from predictionguard_core.sandbox import colours
from predictionguard_core.sandbox.words import STOPWORDS, sentences, vocabulary, words

MAX_TEXT = 20_000
"""Characters of a question that are searched for values."""
_QUOTED = re.compile(
    r"\"([^\"\n]{1,500})\"|“([^”\n]{1,500})”|«([^»\n]{1,500})»|‘([^’\n]{1,500})’"
    r"|(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w)){1,500})'(?!\w)"
)
_NUMBER = re.compile(r"(?<![\w.,-])-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,15})?(?![\d])|(?<=[\w(][-])\d{1,15}(?!\d)")
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}")
_URL = re.compile(r"\bhttps?://[^\s\"'<>]{1,2000}")
_DAY = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_MONTH = "january|february|march|april|may|june|july|august|september|october|november|december"
_DATE = re.compile(
    rf"\b(?:\d{{4}}-\d{{2}}-\d{{2}}|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}|(?:{_MONTH}) \d{{1,2}}(?:, \d{{4}})?"
    rf"|\d{{1,2}} (?:{_MONTH})(?: \d{{4}})?|today|tomorrow|yesterday|tonight|(?:next |this )?(?:{_DAY}))\b",
    re.IGNORECASE,
)
_TIME = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?(?: ?[ap]m)?\b|\b\d{1,2} ?[ap]m\b", re.IGNORECASE)
_CODE = re.compile(r"(?<![\w-])(?=[\w-]{0,39}\d)(?=[\w-]{0,39}[A-Za-z])[A-Za-z0-9][\w-]{2,39}(?![\w-])|(?<=#)\d{1,20}")
_SUM = re.compile(r"[(\d][\d\s+\-*/().^%×÷]{0,200}[\d)]")
_VALUE_END = re.compile(r"[,.](?!\d)|[;!?\n]|\s(?:and|or|with|but)\s")
_COLON = re.compile(r":\s+(\S[^\n]{0,2000})")
_NAMED = re.compile(r"\b(?:named|called|titled|entitled)\s+([^\s,.;:!?]+(?: [A-Z][^\s,.;:!?]*){0,3})")
_TOKEN = re.compile(r"[^\W_][\w'’-]{0,60}")
_COUNTS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12,
}  # fmt: skip
_OPENERS = vocabulary(
    """add ask book buy call calculate check compute convert count create delete describe draw email explain extract
    fetch find generate give hello hey hi list look make multiply name open order plan play please put read remind
    remove reserve return run say schedule search send set show subtract summarise summarize take tell thanks
    translate update use using what's who's where's how's i'm i'd i've write"""
)
_LINKS = vocabulary("of de la le du der den van von the")
_ARTICLES = frozenset(("a", "an", "the"))
_COMMA = re.compile(r"(,\s+(?:and |or )?|\s+and\s+|\s+or\s+)")
_WHERE = vocabulary("in at near from to for around of")


class Facts:
    """The values in a text, each kind in the order in which it is mentioned."""

    def __init__(self, text: str) -> None:
        self.text = text[:MAX_TEXT]

    @cached_property
    def words(self) -> list[str]:
        """The words, in lower case."""
        return words(self.text)

    @cached_property
    def quoted(self) -> list[str]:
        """What stands between quotation marks."""
        return [next(group for group in found.groups() if group).strip() for found in _QUOTED.finditer(self.text)]

    @cached_property
    def emails(self) -> list[str]:
        """E-mail addresses."""
        return [found.group().rstrip(".-") for found in _EMAIL.finditer(self.text)]

    @cached_property
    def urls(self) -> list[str]:
        """Web addresses."""
        return [found.group().rstrip(".,;:!?)") for found in _URL.finditer(self.text)]

    @cached_property
    def dates(self) -> list[str]:
        """Dates and days as they are written."""
        return [found.group() for found in _DATE.finditer(self.text)]

    @cached_property
    def times(self) -> list[str]:
        """Times of day as they are written."""
        return [found.group() for found in _TIME.finditer(self.text)]

    @cached_property
    def codes(self) -> list[str]:
        """Order numbers and the like: letters with digits, or digits behind `#`."""
        return [found.group() for found in _CODE.finditer(self._plain)]

    @cached_property
    def colours(self) -> list[str]:
        """Names of colours."""
        return [word for word in self.words if word.replace("gray", "grey") in colours.NAMES]

    @cached_property
    def expression(self) -> str | None:
        """A sum such as `(3 + 4) * 2`."""
        for found in _SUM.finditer(self.text):
            if any(sign in found.group() for sign in "+-*/^%×÷"):
                return found.group().strip()
        return None

    @cached_property
    def after_colon(self) -> str | None:
        """What follows the first colon on its line."""
        found = _COLON.search(self.text)
        return found.group(1).strip() if found else None

    @cached_property
    def _plain(self) -> str:
        """The text with dates, times and addresses blanked out, so that their digits are no numbers."""
        text = self.text
        for pattern in (_URL, _EMAIL, _DATE, _TIME):
            text = pattern.sub(lambda found: " " * len(found.group()), text)
        return text

    @cached_property
    def numbers(self) -> list[tuple[int | float, int]]:
        """Numbers with the place at which each begins; `two` to `twelve` count too."""
        found: list[tuple[int | float, int]] = []
        for match in _NUMBER.finditer(self._plain):
            digits = match.group().replace(",", "")
            found.append((float(digits) if "." in digits else int(digits), match.start()))
        spelled = ((match.group().lower(), match.start()) for match in _TOKEN.finditer(self.text))
        found += [(_COUNTS[word], place) for word, place in spelled if word in _COUNTS]
        return sorted(found, key=lambda item: item[1])

    @cached_property
    def named(self) -> list[str]:
        """What stands behind `named` or `called`, quotation marks aside."""
        return [found.group(1).strip("\"'“”‘’«»") for found in _NAMED.finditer(self.text)]

    @cached_property
    def names(self) -> list[tuple[str, str]]:
        """Capitalised names, each with the word before it in lower case: `("San Francisco, CA", "in")`."""
        return [(self.text[start:end], before) for start, end, before in self._spans()]

    def _spans(self) -> list[tuple[int, int, str]]:
        spans: list[tuple[int, int, str]] = []
        before, linked, last = "", False, -1
        for match in _TOKEN.finditer(self.text):
            word, gap = match.group(), self.text[last : match.start()] if last >= 0 else ""
            opening = last < 0 or any(mark in gap for mark in ".?!:\n")
            lower = word.lower()
            common = lower in STOPWORDS or lower in _COUNTS or (opening and lower in _OPENERS)
            if word[0].isupper() and not common:
                open_span = bool(spans) and spans[-1][1] == last and gap in (" ", ", ")
                if open_span or (linked and gap == " " and spans):
                    spans[-1] = (spans[-1][0], match.end(), spans[-1][2])
                else:
                    spans.append((match.start(), match.end(), "" if opening else before))
                linked = False
            else:
                linked = lower in _LINKS and bool(spans) and spans[-1][1] == last and gap == " "
            if lower not in _ARTICLES:
                before = lower
            last = match.end()
        return spans

    @cached_property
    def proper(self) -> list[str]:
        """Quotations and names in order, names of places last."""
        placed: list[tuple[bool, int, str]] = [
            (False, found.start(), next(group for group in found.groups() if group).strip())
            for found in _QUOTED.finditer(self.text)
        ]
        inside = [(found.start(), found.end()) for found in _QUOTED.finditer(self.text)][:100]
        placed += [
            (before in _WHERE, start, self.text[start:end])
            for start, end, before in self._spans()
            if not any(first <= start < last for first, last in inside)
        ]
        return [found for _, _, found in sorted(placed)]

    @cached_property
    def enumeration(self) -> list[str]:
        """The items of the longest `a, b and c` in one sentence."""
        best: list[str] = []
        for sentence in sentences(self.text):
            split = _COMMA.split(sentence)
            comma = next((index for index, mark in enumerate(split[1::2]) if mark.startswith(",")), 0)
            pieces = [piece.strip(" .!?") for piece in split[comma * 2 :: 2]]
            if len(pieces) < 2 or len(pieces) <= len(best):
                continue
            quoted = _QUOTED.findall(pieces[0])
            spans = Facts(pieces[0]).names
            ends = bool(spans) and pieces[0].endswith(spans[-1][0])
            first = "".join(quoted[-1]) if quoted else spans[-1][0] if ends else pieces[0].split(" ")[-1]
            behind = pieces[-1].split(" ")[:4]
            end = next((index for index, word in enumerate(behind) if word.lower() in STOPWORDS), len(behind))
            items = [first.lstrip(":"), *pieces[1:-1], " ".join(behind[:end])]
            best = [item.strip("\"'“”: ") for item in items if item.strip("\"'“”: ")]
        return best

    def places(self, *prepositions: str) -> list[str]:
        """Names behind one of the prepositions, or behind any of place."""
        wanted = frozenset(prepositions) or _WHERE
        return [name for name, before in self.names if before in wanted]

    def uncapitalised(self, *prepositions: str) -> list[str]:
        """The words behind the first such preposition, for places that are written small."""
        wanted = frozenset(prepositions) or _WHERE - {"of"}
        tokens = list(_TOKEN.finditer(self._plain))
        for index, token in enumerate(tokens):
            if token.group().lower() not in wanted:
                continue
            behind, last = [], token.end()
            for following in tokens[index + 1 : index + 4]:
                word = following.group().lower()
                if following.start() != last + 1 or word in STOPWORDS or word in _WHERE or word[0].isdigit():
                    break
                behind.append(following.group())
                last = following.end()
            if behind:
                return [" ".join(behind)]
        return []

    def said_of(self, name: str) -> str | None:
        """What the text says behind a word: `size is large`, `size: large`, `the style of a pirate`."""
        place = self.text.lower().find(name.lower())
        while place >= 0:
            behind = self.text[place + len(name) : place + len(name) + 200]
            head = behind.lstrip()
            for link in ("is ", "of ", "to ", "are ", ": ", "= ", "="):
                if head.lower().startswith(link) and (behind != head or not link[0].isalpha()):
                    value = _VALUE_END.split(head[len(link) :], maxsplit=1)[0].strip()
                    for article in ("a ", "an ", "the "):
                        value = value.removeprefix(article)
                    if value:
                        return value.strip("\"'“”")
            place = self.text.lower().find(name.lower(), place + 1)
        return None

    def subject(self) -> str | None:
        """The words that carry meaning, as they are written."""
        kept = [
            word
            for index, word in enumerate(_TOKEN.findall(self.text))
            if word.lower() not in STOPWORDS and not (index == 0 and word.lower() in _OPENERS)
        ]
        return " ".join(kept[:12]) or None
