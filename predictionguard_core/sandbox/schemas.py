"""Makes a value for a JSON schema from the words of a question and the looks of its pictures.

Obeyed: type, enum, const, default, properties, required, items, prefixItems, minItems, maxItems, anyOf,
oneOf, allOf, `$ref` within the schema, the numeric bounds, multipleOf, lengths, and the usual formats.
`pattern` is not: running a stranger's regular expression can take for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from predictionguard_core.sandbox import looks
from predictionguard_core.sandbox.bounds import bounded, natural
from predictionguard_core.sandbox.facts import Facts
from predictionguard_core.sandbox.strings import NONE, STRONG, WEAK, Strings
from predictionguard_core.sandbox.vision import Picture
from predictionguard_core.sandbox.words import NEGATIONS, parts, stem

_DEPTH = 12
_BUDGET = 3000
_ITEMS = 20
Made = tuple[Any, int]


class Filler:
    """Fills one schema; values that were used once are not used again.

    `facts` holds what belongs to this call, `whole` the entire question, for values all calls share.
    """

    def __init__(self, root: Mapping[str, Any], facts: Facts, whole: Facts, pictures: Sequence[Picture]) -> None:
        self.root = root
        self.facts = facts
        self.whole = whole
        self.pictures = pictures
        self.picture = pictures[0] if pictures else None
        self.strings = Strings(facts, whole)
        self.colour: int | None = None
        self.budget = _BUDGET
        self._used: set[int] = set()

    def arguments(self) -> tuple[dict[str, Any], bool]:
        """The arguments of a call, and whether the question founds each one that is required."""
        value, founded = self._object(self._resolve(self.root), 0)
        return (value, founded > NONE) if isinstance(value, dict) else ({}, False)

    def _resolve(self, schema: object) -> Mapping[str, Any]:
        for _ in range(10):
            if not isinstance(schema, dict):
                return {}
            reference = schema.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                target: Any = self.root
                for step in reference[1:].strip("/").split("/") if len(reference) > 1 else ():
                    step = step.replace("~1", "/").replace("~0", "~")
                    target = target.get(step) if isinstance(target, dict) else None
                schema = {**(target if isinstance(target, dict) else {}), **_without(schema, "$ref")}
                continue
            joined = schema.get("allOf")
            if isinstance(joined, list):
                merged: dict[str, Any] = {}
                for part in joined[:50]:
                    merged = _merged(merged, self._resolve(part) if isinstance(part, dict) else {})
                schema = _merged(merged, _without(schema, "allOf"))
                continue
            return schema
        return {}

    def _value(self, schema: object, name: str, depth: int) -> Made:
        self.budget -= 1
        rules = self._resolve(schema)
        if self.budget < 0 or depth > _DEPTH:
            return None, NONE
        if "const" in rules:
            return rules["const"], WEAK
        options = rules.get("enum")
        if isinstance(options, list) and options:
            return self._enum(options, rules, name)
        branches = rules.get("anyOf") or rules.get("oneOf")
        if isinstance(branches, list) and branches:
            rest = _without(rules, "anyOf", "oneOf")
            return self._any([_merged(rest, self._resolve(branch)) for branch in branches[:20]], rules, name, depth)
        kinds = rules.get("type")
        if isinstance(kinds, list) and kinds:
            return self._any([{**rules, "type": one} for one in kinds[:20]], rules, name, depth)
        if not isinstance(kinds, str):
            kinds = "object" if "properties" in rules else "array" if "items" in rules else "string"
        if kinds == "object":
            return self._object(rules, depth)
        if kinds == "array":
            return self._array(rules, name, depth)
        if kinds in ("integer", "number"):
            return self._number(rules, name, whole=kinds == "integer")
        if kinds == "boolean":
            return self._boolean(rules, name)
        return (None, NONE) if kinds == "null" else self._string(rules, name)

    def _any(self, branches: list[Mapping[str, Any]], rules: Mapping[str, Any], name: str, depth: int) -> Made:
        best: Made | None = None
        for branch in branches:
            if branch.get("type") == "null":
                continue
            made = self._value(branch, name, depth + 1)
            if best is None or made[1] > best[1]:
                best = made
        # What may be missing is not made up.
        spared = "default" in rules or any(branch.get("type") == "null" for branch in branches)
        if best is None or (best[1] == NONE and spared):
            return rules.get("default"), NONE
        return best

    def _object(self, rules: Mapping[str, Any], depth: int) -> Made:
        properties = rules.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        listed = rules.get("required")
        required = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
        made: dict[str, Made] = {}
        for name in sorted(properties, key=lambda name: name not in required):
            if name in required:
                made[name] = self._value(properties[name], name, depth + 1)
            elif depth < 5 and self.budget > 0:
                used = self._used.copy(), self.strings.used.copy()
                value, founded = self._value(properties[name], name, depth + 1)
                if founded == STRONG:
                    made[name] = (value, founded)
                else:
                    self._used, self.strings.used = used
        for name in sorted(required - set(properties)):
            made[name] = self._string({}, name)
        grades = [made[name][1] for name in required] or [grade for _, grade in made.values()]
        ordered = {name: made[name][0] for name in (*properties, *sorted(required - set(properties))) if name in made}
        return ordered, min(grades, default=NONE)

    def _array(self, rules: Mapping[str, Any], name: str, depth: int) -> Made:
        first = rules.get("prefixItems")
        if isinstance(first, list):
            pairs = [self._value(item, name, depth + 1) for item in first[:_ITEMS]]
            return [value for value, _ in pairs], min((grade for _, grade in pairs), default=NONE)
        least = min(natural(rules.get("minItems"), 0), _ITEMS)
        most = max(least, min(natural(rules.get("maxItems"), _ITEMS), _ITEMS))
        items = self._resolve(rules.get("items"))
        single = name[:-1] if name.endswith("s") and len(name) > 3 else name
        coloured = looks.about(name, "color")
        objects = items.get("type") == "object" or "properties" in items
        if not coloured and not objects and items.get("type", "string") == "string" and "enum" not in items:
            found = self.strings.listed(name)
            if found:
                return (found + found[:1] * least)[: max(least, min(len(found), most))], STRONG
        rounds = 0
        if coloured and self.picture is not None:
            rounds = len(self.picture.main_colours)
        elif objects:
            rounds = self._counted(name) or len(self.pictures) or 1
        values: list[Any] = []
        founded = NONE
        outer = self.picture, self.colour
        for index in range(min(max(rounds, least), most) if rounds else most):
            if coloured and self.picture is not None:
                self.colour = index
            elif rounds > 1 and index < len(self.pictures):
                self.picture = self.pictures[index]
            value, grade = self._value(items, single, depth + 1)
            # Numbers are taken while there are any; one made-up item must do where there are none.
            if values and not rounds and index >= least and (grade == NONE or value in values):
                break
            values.append(value)
            founded = max(founded, grade)
        self.picture, self.colour = outer
        return values, founded

    def _counted(self, name: str) -> int:
        """How many the question asks for: `3 songs` for a list called `songs`."""
        for number, place in self.facts.numbers:
            behind = self.facts.text[place : place + 40].split()[1:2]
            if (
                behind
                and isinstance(number, int)
                and 0 < number <= _ITEMS
                and looks.about(name, behind[0].strip(".,?!"))
            ):
                return number
        return 0

    def _enum(self, options: list[Any], rules: Mapping[str, Any], name: str) -> Made:
        told = self._pictured(name)
        if isinstance(told, str):
            for option in options:
                if isinstance(option, str) and option.lower() == told.lower():
                    return option, STRONG
        for facts in (self.facts, self.whole):
            said = {stem(word) for word in facts.words} | set(facts.words)
            for option in options:
                spoken = parts(str(option))
                if spoken and all(word in said or stem(word) in said for word in spoken):
                    return option, STRONG
        return rules.get("default", options[0]), NONE

    def _boolean(self, rules: Mapping[str, Any], name: str) -> Made:
        spoken = [word for word in parts(name) if word not in ("is", "has", "are", "should", "include")]
        if self.picture is not None:
            looks = {self.picture.shape, self.picture.brightness, *(word for word, _ in self.picture.main_colours)}
            if any(word in ("landscape", "portrait", "square", "dark", "light") for word in spoken):
                return any(word in looks for word in spoken), STRONG
        listed = self.whole.words
        for index, word in enumerate(listed):
            if spoken and stem(word) == stem(spoken[-1]):
                return not NEGATIONS.intersection(listed[max(0, index - 3) : index]) and (
                    "without" not in listed[max(0, index - 3) : index]
                ), STRONG
        return bool(rules.get("default", False)), NONE

    def _number(self, rules: Mapping[str, Any], name: str, *, whole: bool) -> Made:
        told = self._pictured(name)
        if isinstance(told, int | float):
            return bounded(told, rules, whole=whole), STRONG
        spoken = {stem(word) for word in parts(name)}
        free = [item for item in self.facts.numbers if item[1] not in self._used]
        for number, place in free:
            near = self.facts.text[max(0, place - 30) : place + 30].lower()
            if any(len(word) > 1 and word in near for word in spoken):
                self._used.add(place)
                return bounded(number, rules, whole=whole), STRONG
        if free:
            self._used.add(free[0][1])
            return bounded(free[0][0], rules, whole=whole), WEAK
        default = rules.get("default")
        known = isinstance(default, int | float) and not isinstance(default, bool)
        return (default if known else bounded(0, rules, whole=whole)), NONE

    def _string(self, rules: Mapping[str, Any], name: str) -> Made:
        told = self._pictured(name)
        form = rules.get("format")
        if told is not None:
            value, founded = str(told), STRONG
        else:
            value, founded = self.strings.find(name, form if isinstance(form, str) else "")
        if founded == NONE and isinstance(rules.get("default"), str):
            return rules["default"], NONE
        least, most = natural(rules.get("minLength"), 0), natural(rules.get("maxLength"), 10_000)
        return value.ljust(min(least, 1000), ".")[: max(0, most)], founded

    def _pictured(self, name: str) -> str | int | float | None:
        """What a field by that name says of the picture at hand, if it asks for something that can be seen."""
        if self.picture is None:
            return None
        return looks.field(name, self.picture, self.pictures, self.colour)


def _without(schema: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two schemas as one: properties and required are joined, of all else the second wins."""
    joined = {**one, **other}
    for name in ("properties", "required"):
        a, b = one.get(name), other.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            joined[name] = {**a, **b}
        elif isinstance(a, list) and isinstance(b, list):
            joined[name] = [*a, *b]
    return joined
