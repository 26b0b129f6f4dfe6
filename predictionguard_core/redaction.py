"""Removes the API key and the values of headers from error texts: a service or a proxy may echo them."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Collection, Iterable, Mapping

from predictionguard_core.errors import error_chain

REDACTED = "<redacted>"

_MIN_SECRET_LENGTH = 6  # shorter values stand in many texts by chance


_SECRET_OPTION = re.compile("api_?key|header|authori[sz]ation|secret|password", re.IGNORECASE)


def may_hold_secret(option: str) -> bool:
    """Return whether an option of a call may hold a secret: `extra_headers`, or one that calls do not have.

    People pass `api_key` to a call, which is refused only after observers have seen its options.
    """
    return _SECRET_OPTION.search(option) is not None


def secrets_of(headers: Mapping[str, str]) -> Iterable[str]:
    """Yield the values of headers, and what follows the scheme in values such as "Bearer abc"."""
    for value in headers.values():
        yield value
        yield value.partition(" ")[2]


def redact_error(error: BaseException, secrets: Iterable[str]) -> None:
    """Replace the secrets in the texts of an error and of the errors that led to it."""
    # The longest first: one may be a part of another.
    texts = {form for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH for form in _forms(secret)}
    found = sorted(texts, key=len, reverse=True)
    for each in error_chain(error) if found else ():
        for name, value in vars(each).items():
            if isinstance(value, str):
                vars(each)[name] = redact_text(value, found)
        each.args = tuple(redact_text(value, found) if isinstance(value, str) else value for value in each.args)


def _forms(secret: str) -> tuple[str, ...]:
    """Return a secret as it may be echoed: as it is, in a URL, in a form, in JSON."""
    quote = urllib.parse.quote
    return secret, quote(secret), quote(secret, safe=""), urllib.parse.quote_plus(secret), json.dumps(secret)[1:-1]


def redact_text(text: str, secrets: Collection[str]) -> str:
    """Return the text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    # A long error text was cut at the ellipsis, perhaps in the middle of a secret.
    kept, ellipsis, rest = text.rpartition("…")
    for secret in secrets if ellipsis else ():
        for length in range(len(secret) - 1, _MIN_SECRET_LENGTH - 1, -1):
            if kept.endswith(secret[:length]):
                return kept[:-length] + REDACTED + ellipsis + rest
    return text
