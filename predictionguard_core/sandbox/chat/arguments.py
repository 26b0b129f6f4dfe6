"""The arguments of a tool call, from the tool's JSON schema.

A value is taken from the question only as it stands there: quoted strings, file names, URLs, e-mail addresses, dates,
codes, sums, numbers, words of an enum, and capitalised names for a place. Fields about an image (width, colour, …) hold
what was seen of it. Then comes the schema's default, and last a placeholder: `<shop>` for the string shop, 0, false.

Obeyed: type, enum, const, default, properties, required, items, prefixItems, minItems, maxItems, anyOf, oneOf, allOf,
`$ref` within the schema, the numeric bounds, multipleOf, lengths, and the usual formats. `pattern` is not: running a
stranger's regular expression can take for ever. Every pattern here is bounded, so the work grows with the text only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from predictionguard_core.sandbox.text import name_parts, split_words, stem
from predictionguard_core.sandbox.vision.images import Image

MAX_TEXT = 20_000
"""Characters of a question that are searched for values."""
PLACEHOLDER, NEXT, MEANT = 0, 1, 2
"""Where a value comes from: made up, the next one of its kind in the question, or clearly the one that was meant."""
_DEPTH = 12
_BUDGET = 3000
_MAX_ITEMS = 20
_MAX_NUMBERS = 200
_Value = tuple[Any, int]

_PATTERNS = {
    "quoted": re.compile(
        r"\"([^\"\n]{1,500})\"|“([^”\n]{1,500})”|«([^»\n]{1,500})»|‘([^’\n]{1,500})’"
        r"|(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w)){1,500})'(?!\w)"
        r"|\b(?:named|called|titled)\s+([^\s,.;:!?\"'“‘«]{1,100})"
    ),
    "url": re.compile(r"\b(https?://[^\s\"'<>]{1,2000})"),
    "email": re.compile(r"(?<![\w.%+-])([\w.%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5})"),
    "date": re.compile(r"\b(\d{4}-\d{2}-\d{2})\b"),
    "time": re.compile(r"\b(\d{1,2}:\d{2}(?::\d{2})?)\b"),
    "file": re.compile(r"(?<![\w./\\~:-])((?:[A-Za-z]:)?[\w./\\~-]{0,300}\w\.[A-Za-z][A-Za-z0-9]{1,4})(?![\w/\\-])"),
    "code": re.compile(r"(?<![\w-])((?=[\w-]{0,39}\d)(?=[\w-]{0,39}[A-Za-z])[A-Za-z0-9][\w-]{2,39})(?![\w-])"),
    "sum": re.compile(r"([(\d][\d\s+\-*/().^%×÷]{0,200}[+\-*/^%×÷][\d\s+\-*/().^%×÷]{0,200}[\d)])"),
    "place": re.compile(
        r"(?:\b(?i:in|at|near|from|to|for|around|of) |^)([A-ZÀ-ÖØ-Þ][\w'’-]{0,60}(?:,? [A-ZÀ-ÖØ-Þ][\w'’-]{0,60}){0,4})"
    ),
}  # fmt: skip
_NUMBER = re.compile(
    r"(?<![\w.,-])-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,15})?(?!\d)|(?<=[\w(][-])\d{1,15}(?!\d)|\b[a-z]+\b"
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_SPOKEN_DATE = re.compile(rf"\b(?:\d{{1,2}} {_MONTH}|{_MONTH} \d{{1,2}})(?:,? \d{{4}})?\b", re.IGNORECASE)
_EXTENSION = re.compile(r"\w\.[A-Za-z][A-Za-z0-9]{1,4}$")
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_COLON = re.compile(r":\s+(\S[^\n]{0,2000})")


def _stems(words: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words.split())


_KINDS = {
    "email": _stems("email mail to recipient sender"),
    "url": _stems("url uri link website"),
    "date": _stems("date day when"),
    "time": _stems("time"),
    "file": _stems("file filename path image picture photo document"),
    "code": _stems("id identifier code number reference ticket order sku"),
    "sum": _stems("expression formula equation"),
    "place": _stems("city location place country town address destination origin region state area to from"),
}
"""Which kind of value a field asks for by the words of its name."""
_TEXTS = _stems("query question topic search prompt request task instruction input text message sentence")
_FORMATS = {
    "email": ("email", "placeholder@example.com"),
    "uri": ("url", "https://example.com/placeholder"),
    "date": ("date", "1970-01-01"),
    "time": ("time", "00:00:00"),
    "date-time": ("", "1970-01-01T00:00:00Z"),
    "uuid": ("", "00000000-0000-0000-0000-000000000000"),
    "ipv4": ("", "192.0.2.1"),
    "hostname": ("", "placeholder.example.com"),
}


class Values:
    """The values in a text, each kind in the order in which it is mentioned.

    With `continues`, the text is a later part of a question, so its first word is capitalised because it is a name.
    """

    def __init__(self, text: str, *, continues: bool = False) -> None:
        self.text = text[:MAX_TEXT]
        self.continues = continues
        self._found: dict[str, list[str]] = {}
        words = split_words(self.text)
        self.words = {*words, *map(stem, words)}

    def of_kind(self, kind: str) -> list[str]:
        """Return the values of one kind, as they are written."""
        if kind not in self._found:
            text = self._without("url", "email", "quoted") if kind == "file" else self.text
            matches = list(_PATTERNS[kind].finditer(text))
            if kind == "place" and not self.continues:
                matches = [match for match in matches if match.start(1)]
            if kind == "file":
                # A quoted name may hold spaces.
                quoted = _PATTERNS["quoted"].finditer(self.text)
                matches += [match for match in quoted if _EXTENSION.search(_value(match))]
                matches.sort(key=lambda match: match.start())
            self._found[kind] = list(dict.fromkeys(_value(match) for match in matches))
        return self._found[kind]

    def _without(self, *kinds: str) -> str:
        """Return the text with the values of these kinds blanked out."""
        text = self.text
        for kind in kinds:
            text = _PATTERNS[kind].sub(lambda match: " " * len(match.group()), text)
        return text

    @cached_property
    def numbers(self) -> list[tuple[int | float, int]]:
        """The numbers with the position at which each begins; `two` to `ten` count too."""
        plain = _SPOKEN_DATE.sub(
            lambda match: " " * len(match.group()), self._without("url", "email", "date", "time", "file")
        )
        found: list[tuple[int | float, int]] = []
        for match in _NUMBER.finditer(plain):
            digits = match.group().replace(",", "")
            if digits in _COUNTS:
                found.append((_COUNTS[digits], match.start()))
            elif not digits.isalpha():
                found.append((float(digits) if "." in digits else int(digits), match.start()))
        return found[:_MAX_NUMBERS]


def _value(match: re.Match[str]) -> str:
    value = next(group for group in match.groups() if group).strip()
    return value.rstrip(".,;:!?)") if value.startswith(("http://", "https://")) else value


def fill(
    schema: Mapping[str, Any], text: str, question: str, images: Sequence[Image] = ()
) -> tuple[dict[str, Any], bool]:
    """Return the arguments of a call, and whether each required one was found in the text, the question or an image.

    `text` is the part of the question that belongs to this call; `question` holds values that all calls share.
    """
    clause = Values(text, continues=not question.startswith(text))
    return _Filler(schema, clause, Values(question), images).arguments()


class _Filler:
    """Fills one schema; a value that was used once is not used again."""

    def __init__(self, root: Mapping[str, Any], text: Values, question: Values, images: Sequence[Image]) -> None:
        self.root = root
        self.sources = (text, question)
        self.images = [image for image in images if image.stored[0]]
        self.image = self.images[0] if self.images else None
        self.color_index: int | None = None
        self.budget = _BUDGET
        self.used_numbers: set[int] = set()
        self.used_strings: set[str] = set()
        self.open_references = ["#", *_references(root)]
        """The `$ref` of the schemas that are being filled: a schema that refers to one of them is recursive."""

    def arguments(self) -> tuple[dict[str, Any], bool]:
        value, grade = self.object(self.resolve(self.root), 0)
        return value, grade > PLACEHOLDER

    def is_recursive(self, schema: object) -> bool:
        """Whether a value of the schema holds another one of the schema that is being filled."""
        if any(reference in self.open_references for reference in _references(schema)):
            return True
        branches = _branches(schema)
        return bool(branches) and all(map(self.is_recursive, branches))

    def resolve(self, schema: object) -> Mapping[str, Any]:
        """Return a schema with its `$ref` and `allOf` merged into it."""
        for _ in range(10):
            if not isinstance(schema, dict):
                return {}
            reference, joined = schema.get("$ref"), schema.get("allOf")
            if isinstance(reference, str) and reference.startswith("#"):
                target: Any = self.root
                for step in filter(None, reference[1:].split("/")):
                    target = (
                        target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
                    )
                schema = _merge(target if isinstance(target, dict) else {}, _without(schema, "$ref"))
            elif isinstance(joined, list):
                merged: dict[str, Any] = {}
                for part in joined[:50]:
                    merged = _merge(merged, self.resolve(part))
                schema = _merge(merged, _without(schema, "allOf"))
            else:
                return schema
        return {}

    def value(self, schema: object, name: str, depth: int) -> _Value:
        count = len(self.open_references)
        self.open_references += _references(schema)
        value = self.value_of(self.resolve(schema), name, depth)
        del self.open_references[count:]
        return value

    def value_of(self, rules: Mapping[str, Any], name: str, depth: int) -> _Value:
        self.budget -= 1
        if self.budget < 0 or depth > _DEPTH:
            return None, PLACEHOLDER
        if "const" in rules:
            return rules["const"], NEXT
        if isinstance(rules.get("enum"), list) and rules["enum"]:
            return self.enum(rules, name)
        types = rules.get("type")
        if branches := _branches(rules):
            branches = [branch for branch in branches if not self.is_recursive(branch)] or branches
            rest = _without(rules, "anyOf", "oneOf")
            return self.any_of([_merge(rest, branch) for branch in branches[:20]], rules, name, depth)
        if isinstance(types, list) and types:
            return self.any_of([{**rules, "type": each} for each in types[:20]], rules, name, depth)
        if not isinstance(types, str):
            types = "object" if "properties" in rules else "array" if "items" in rules else "string"
        if types == "object":
            return self.object(rules, depth)
        if types == "array":
            return self.array(rules, name, depth)
        if types in ("integer", "number"):
            return self.number(rules, name, whole=types == "integer")
        if types == "boolean":
            seen = self.seen(name)
            return (seen, MEANT) if isinstance(seen, bool) else (bool(rules.get("default", False)), PLACEHOLDER)
        return (None, PLACEHOLDER) if types == "null" else self.string(rules, name)

    def any_of(self, branches: list[Mapping[str, Any]], rules: Mapping[str, Any], name: str, depth: int) -> _Value:
        best: _Value | None = None
        for branch in branches:
            if branch.get("type") != "null":
                found = self.value(branch, name, depth + 1)
                best = found if best is None or found[1] > best[1] else best
        # What may be absent needs no placeholder.
        optional = "default" in rules or any(branch.get("type") == "null" for branch in branches)
        if best is None or (best[1] == PLACEHOLDER and optional):
            return rules.get("default"), PLACEHOLDER
        return best

    def object(self, rules: Mapping[str, Any], depth: int) -> tuple[dict[str, Any], int]:
        properties = rules.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        listed = rules.get("required")
        required = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
        found: dict[str, _Value] = {}
        for name in sorted({**properties, **dict.fromkeys(required)}, key=lambda name: name not in required):
            if name in required:
                found[name] = self.value(properties.get(name), name, depth + 1)
            elif depth < 5 and self.budget > 0 and not self.is_recursive(properties[name]):
                used = self.used_numbers.copy(), self.used_strings.copy()
                value, grade = self.value(properties[name], name, depth + 1)
                if grade == MEANT:
                    found[name] = (value, grade)
                else:
                    self.used_numbers, self.used_strings = used
        grades = [found[name][1] for name in required] or [grade for _, grade in found.values()]
        ordered = {name: found[name][0] for name in {**properties, **dict.fromkeys(required)} if name in found}
        return ordered, min(grades, default=PLACEHOLDER)

    def array(self, rules: Mapping[str, Any], name: str, depth: int) -> _Value:
        first = rules.get("prefixItems")
        if isinstance(first, list):
            pairs = [self.value(item, name, depth + 1) for item in first[:_MAX_ITEMS]]
            return [value for value, _ in pairs], min((grade for _, grade in pairs), default=PLACEHOLDER)
        least = min(_natural(rules.get("minItems"), 0), _MAX_ITEMS)
        most = max(least, min(_natural(rules.get("maxItems"), _MAX_ITEMS), _MAX_ITEMS))
        if not least and self.is_recursive(rules.get("items")):
            return [], NEXT
        items = self.resolve(rules.get("items"))
        has_colors = self.image is not None and _asks_for(name, "color")
        has_objects = items.get("type") == "object" or "properties" in items
        rounds = len(self.image.main_colors) if has_colors and self.image else (len(self.images) or 1) * has_objects
        values: list[Any] = []
        best = PLACEHOLDER
        outer = self.image, self.color_index
        for index in range(min(max(rounds, least), most) if rounds else most):
            if has_colors:
                self.color_index = index
            elif rounds > 1 and index < len(self.images):
                self.image = self.images[index]
            value, grade = self.value(items, name, depth + 1)
            # Values are taken while there are any; where there are none, one placeholder shows the shape.
            if values and not rounds and index >= least and (grade == PLACEHOLDER or value in values):
                break
            values.append(value)
            best = max(best, grade)
        self.image, self.color_index = outer
        return values, best

    def enum(self, rules: Mapping[str, Any], name: str) -> _Value:
        seen = self.seen(name)
        for option in rules["enum"]:
            if isinstance(option, str) and isinstance(seen, str) and option.lower() == seen.lower():
                return option, MEANT
        for source in self.sources:
            for option in rules["enum"]:
                spoken = name_parts(str(option))
                if spoken and all(word in source.words or stem(word) in source.words for word in spoken):
                    return option, MEANT
        return rules.get("default", rules["enum"][0]), PLACEHOLDER

    def number(self, rules: Mapping[str, Any], name: str, *, whole: bool) -> _Value:
        seen = self.seen(name)
        if isinstance(seen, int | float):
            return _bounded(seen, rules, whole=whole), MEANT
        text = self.sources[0].text
        free = [(number, position) for number, position in self.sources[0].numbers if position not in self.used_numbers]
        spoken = {stem(word) for word in name_parts(name) if len(word) > 1}
        near = [
            item for item in free if any(word in text[max(0, item[1] - 30) : item[1] + 30].lower() for word in spoken)
        ]
        for number, position in near or free:
            self.used_numbers.add(position)
            return _bounded(number, rules, whole=whole), MEANT if near else NEXT
        default = rules.get("default")
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        return (default if is_number else _bounded(0, rules, whole=whole)), PLACEHOLDER

    def string(self, rules: Mapping[str, Any], name: str) -> _Value:
        seen = self.seen(name)
        value, grade = (str(seen), MEANT) if seen is not None else self.find_string(name, str(rules.get("format")))
        if grade == PLACEHOLDER and isinstance(rules.get("default"), str):
            return rules["default"], PLACEHOLDER
        least, most = _natural(rules.get("minLength"), 0), _natural(rules.get("maxLength"), MAX_TEXT)
        return value.ljust(min(least, 1000), ".")[:most], grade

    def find_string(self, name: str, form: str) -> tuple[str, int]:
        spoken = {stem(word) for word in name_parts(name)}
        kind, placeholder = _FORMATS.get(form, ("", f"<{name}>"))
        kinds = [kind] if kind else [each for each, words in _KINDS.items() if spoken & words]
        for each in kinds:
            value = self.take(each)
            if value is not None:
                return (f"{value}:00" if kind == "time" and len(value) == 5 else value), MEANT
        if form in _FORMATS:
            return placeholder, PLACEHOLDER
        value = self.take("quoted") or self.take("file")
        if value is not None:
            return value, NEXT
        if spoken & _TEXTS:
            after = _COLON.search(self.sources[0].text)
            return (after.group(1).strip() if after else self.sources[0].text.strip()) or placeholder, NEXT
        return placeholder, PLACEHOLDER

    def take(self, kind: str) -> str | None:
        """Return the next value of a kind that was not used yet, or None."""
        for source in self.sources:
            for value in source.of_kind(kind):
                if value not in self.used_strings:
                    self.used_strings.add(value)
                    return value
        return None

    def seen(self, name: str) -> str | int | float | bool | None:
        """Return what a field of that name says of the image at hand, if it asks for something that can be seen."""
        if self.image is None:
            return None
        width, height = self.image.shown
        colors = self.image.main_colors
        index = min(self.color_index or 0, len(colors) - 1)
        if _asks_for(name, "width"):
            return width
        if _asks_for(name, "height"):
            return height
        if _asks_for(name, "percent percentage"):
            return round(colors[index][1] * 100)
        if _asks_for(name, "share fraction proportion"):
            return round(colors[index][1], 2)
        if _asks_for(name, "color") or (self.color_index is not None and _asks_for(name, "name value label")):
            return colors[index][0]
        if _asks_for(name, "orientation aspect shape"):
            return self.image.shape
        if _asks_for(name, "brightness lightness tone"):
            return self.image.brightness
        if _asks_for(name, "format type mime"):
            return self.image.format
        if _asks_for(name, "size dimension resolution"):
            return f"{width} x {height} pixels"
        if _asks_for(name, "description caption summary describe"):
            return f"{self.image.describe('The image')} No AI model was asked."
        shapes = {"landscape", "portrait", "square", "dark", "light"} & set(name_parts(name))
        if shapes:
            return bool(shapes & {self.image.shape, self.image.brightness})
        return len(self.images) if _asks_for(name, "count") and _asks_for(name, "image picture photo") else None


def _asks_for(name: str, topics: str) -> bool:
    """Whether a field's name has one of the words in it, in whatever form."""
    return bool({stem(word) for word in name_parts(name)} & _stems(topics))


def _references(schema: object) -> list[str]:
    """Return the `$ref` of a schema and of the schemas in its `allOf`."""
    if not isinstance(schema, dict):
        return []
    parts = [schema, *(schema["allOf"][:50] if isinstance(schema.get("allOf"), list) else [])]
    return [part["$ref"] for part in parts if isinstance(part, dict) and isinstance(part.get("$ref"), str)]


def _branches(schema: object) -> list[Any]:
    branches = (schema.get("anyOf") or schema.get("oneOf")) if isinstance(schema, Mapping) else None
    return [each for each in branches if isinstance(each, dict)] if isinstance(branches, list) else []


def _without(schema: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}


def _merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return two schemas as one: properties and required are joined, of everything else the second wins."""
    merged = {**one, **other}
    for name in ("properties", "required"):
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            merged[name] = {**a, **b}
        elif isinstance(a, list) and isinstance(b, list):
            merged[name] = [*a, *b]
    return merged


def _natural(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _bounded(number: int | float, rules: Mapping[str, Any], *, whole: bool) -> int | float:
    """Return the number moved into the schema's bounds; whole numbers stay exact."""

    def bound(name: str) -> float | None:
        value = rules.get(name)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300
        return value if usable else None

    value: int | float = round(number) if whole else number
    low, over = bound("minimum"), bound("exclusiveMinimum")
    high, under = bound("maximum"), bound("exclusiveMaximum")
    step = bound("multipleOf")
    if low is not None and value < low:
        value = math.ceil(low) if whole else low
    if over is not None and value <= over:
        value = math.floor(over) + 1
    if high is not None and value > high:
        value = math.floor(high) if whole else high
    if under is not None and value >= under:
        value = math.ceil(under) - 1
    if step is not None and step > 0 and value % step:
        value = math.floor(value / step) * step + (step if low is not None or over is not None else 0)
        value = int(value) if float(value).is_integer() else value
    return value
