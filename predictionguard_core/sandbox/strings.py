"""Chooses the words of a question that a string field of a given name most likely wants."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from predictionguard_core.sandbox.facts import Facts
from predictionguard_core.sandbox.words import parts, stem, vocabulary

NONE, WEAK, STRONG = 0, 1, 2
"""How well a value is founded: made up, the next one of its kind in the question, or clearly meant."""
_PLACES = vocabulary("city location place country town address destination origin region state where area from to")
_NAMES = vocabulary("name person people customer user company brand recipient patient employee")
_TEXTS = vocabulary("text message sentence body content document paragraph comment note input")
_QUERIES = vocabulary("query question topic search subject keyword prompt request task instruction")
_CODES = vocabulary("id identifier code number reference ticket order sku")
_FORMATS = {
    "email": "someone@example.com",
    "uri": "https://example.com",
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00Z",
    "time": "00:00:00",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}


class Strings:
    """Finds strings; what was given out once is not given out again while there is something else."""

    def __init__(self, facts: Facts, whole: Facts) -> None:
        self.facts = facts
        self.whole = whole
        self.used: set[str] = set()

    def find(self, name: str, form: str = "") -> tuple[str, int]:
        """A string for a field and how well it is founded; `form` is the schema's `format`."""
        spoken = {stem(word) for word in parts(name)}
        typed = self._formatted(spoken, form)
        if typed is not None:
            return typed
        for facts in (self.facts, self.whole):
            found = self._take(self._wanted(spoken, facts))
            if found is not None:
                # Any name will do for a place, but only one behind "in" or the like is surely one.
                guessed = bool(spoken & _stems(_PLACES)) and facts.names and found not in facts.places()
                return found, WEAK if guessed else STRONG
        again = self._wanted(spoken, self.facts) or self._wanted(spoken, self.whole)
        if again:
            return again[0], WEAK
        told = self._told(name)
        if told is not None:
            return told, STRONG
        if spoken & _stems(_QUERIES) or spoken & _stems(_TEXTS):
            whole = self.facts.text if spoken & _stems(_TEXTS) else self.facts.subject()
            return (whole or self.whole.text or name), WEAK if whole else NONE
        loose = [*self.facts.proper, *self.facts.colours]
        found = self._take(loose)
        if found is not None:
            return found, WEAK
        return self.facts.subject() or self.whole.subject() or self.whole.text or name, NONE

    def listed(self, name: str) -> list[str]:
        """Several strings for a list of that name, as far as the question holds them."""
        spoken = {stem(word) for word in parts(name)}
        return self._wanted(spoken, self.facts) or self.facts.enumeration or self.facts.quoted

    def _take(self, candidates: Iterable[str]) -> str | None:
        for candidate in candidates:
            if candidate and candidate not in self.used:
                self.used.add(candidate)
                return candidate
        return None

    def _wanted(self, spoken: set[str], facts: Facts) -> list[str]:
        """What the text has of the kind the field's name asks for."""
        if spoken & {stem("origin"), "from", stem("source"), stem("departure")}:
            return facts.places("from") or facts.uncapitalised("from")
        if spoken & {stem("destination"), "to", stem("arrival"), stem("target")}:
            return facts.places("to") or facts.uncapitalised("to")
        if spoken & _stems(_PLACES):
            return [*facts.places(), *(found for found, _ in facts.names)] or facts.uncapitalised()
        if spoken & {stem("artist"), stem("author")}:
            return facts.places("by", "from") or facts.proper
        if spoken & _stems(_NAMES) and spoken & {"first", "given", "last", "family"}:
            whole = [name.split() for name in facts.proper if " " in name]
            return [name[0] if spoken & {"first", "given"} else name[-1] for name in whole]
        if spoken & _stems(_NAMES):
            return [*facts.named, *facts.proper]
        if spoken & {stem("color")}:
            return facts.colours
        if spoken & {stem("expression"), stem("formula"), stem("equation")}:
            return [facts.expression] if facts.expression else []
        if spoken & _stems(_CODES):
            return facts.codes
        if spoken & _stems(_TEXTS) or spoken & _stems(_QUERIES) or spoken & {stem("title")}:
            return [*facts.quoted, *facts.named, *([facts.after_colon] if facts.after_colon else [])]
        return []

    def _told(self, name: str) -> str | None:
        """What the question says of the field by its own name."""
        names = [name.replace("_", " "), *(word for word in reversed(parts(name)) if len(word) > 3)]
        for facts in (self.facts, self.whole):
            for spelled in names:
                value = facts.said_of(spelled)
                # "the shop Paper Lantern" says it as well as "the shop is Paper Lantern".
                named = [name for name, before in facts.names if before == spelled.lower()]
                found = self._take([*([value] if value is not None else []), *named])
                if found is not None:
                    return found
        return None

    def _formatted(self, spoken: set[str], form: str) -> tuple[str, int] | None:
        form = {"url": "uri", "uri-reference": "uri", "idn-email": "email"}.get(form, form)
        kinds = {
            "email": (form == "email" or bool(spoken & {"email", "mail"}), "emails"),
            "uri": (form == "uri" or bool(spoken & {"url", "uri", "link", stem("website")}), "urls"),
            "date": (form in ("date", "date-time") or bool(spoken & {stem("date"), "day", "when"}), "dates"),
            "time": (form in ("time", "date-time") or stem("time") in spoken, "times"),
        }
        for kind, (asked, attribute) in kinds.items():
            if not asked:
                continue
            for facts in (self.facts, self.whole):
                for found in getattr(facts, attribute):
                    if form in ("date", "date-time", "time") and not _fits(found, form):
                        continue
                    if found not in self.used or facts is self.whole:
                        self.used.add(found)
                        return (found if form != "date-time" else f"{found}T00:00:00Z"), STRONG
            if form == kind:
                return _FORMATS[form], NONE
        if form == "uuid":
            return str(uuid.uuid5(uuid.NAMESPACE_OID, self.whole.text.encode("utf-8", "replace").decode())), NONE
        return (_FORMATS[form], NONE) if form in _FORMATS else None


def _fits(found: str, form: str) -> bool:
    """Whether a date or time as written is one by RFC 3339, as the formats of JSON schema want it."""
    digits = found.replace("-", "").replace(":", "")
    if form == "time":
        return len(found) == 8 and digits.isdigit()
    return len(found) == 10 and found[4:5] == "-" and digits.isdigit()


def _stems(listed: Iterable[str]) -> set[str]:
    return {stem(word) for word in listed}
