"""Unknown options of a class: an error that names the closest known one, in place of Python's bare TypeError."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_MAX_NAME = 60


def name_closest_option(error: Callable[[str], Exception]) -> Callable[[type[T]], type[T]]:
    """Return a class decorator: an unknown keyword argument raises `error` with the closest known one."""

    def decorate(cls: type[T]) -> type[T]:
        patched: Any = cls
        init = patched.__init__
        known = list(inspect.signature(init).parameters)[1:]

        @functools.wraps(init)
        def checked_init(self: T, *args: Any, **options: Any) -> None:
            for name in options:
                if name not in known:
                    close = difflib.get_close_matches(name[:_MAX_NAME], known, n=1)
                    hint = f"; did you mean {close[0]!r}?" if close else "."
                    raise error(
                        f"{type(self).__name__} has no option {name[:_MAX_NAME]!r}{hint} "
                        f"Its options are {', '.join(known)}"
                    )
            init(self, *args, **options)

        patched.__init__ = checked_init
        return cls

    return decorate
