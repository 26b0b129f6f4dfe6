"""How a stream within a stream is closed, in both colours."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

closing = contextlib.closing


class aclosing(Generic[T]):  # noqa: N801 - used as a block
    """`contextlib.aclosing` for a generator of which the running loop is not told.

    A loop that ends closes all generators it knows of at once. It would come to close the inner one while the outer one
    does so, which is an error of Python's; the outer one is enough.
    """

    def __init__(self, thing: AsyncGenerator[T, None]) -> None:
        self._thing = thing
        self._is_begun = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._thing.aclose()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T]:
        if self._is_begun:
            return self._thing.__anext__()
        self._is_begun = True
        told = sys.get_asyncgen_hooks().firstiter
        sys.set_asyncgen_hooks(firstiter=None)
        try:
            return self._thing.__anext__()
        finally:
            sys.set_asyncgen_hooks(firstiter=told)
