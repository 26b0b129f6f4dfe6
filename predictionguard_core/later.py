"""The rooms that take httpx with them: loaded when a call first needs them, off the event loop where there is one.

Importing an adapter, and making a model, shall cost little over the framework.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictionguard_core import downloads as downloads
    from predictionguard_core import guards as guards
    from predictionguard_core import pools as pools

_ROOMS = ("guards", "pools", "downloads")


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, importlib.import_module(f"predictionguard_core.{name}"))


def load() -> None:
    """Load them all."""
    for name in _ROOMS:
        __getattr__(name)


async def async_load() -> None:
    """The same, in a thread if there is anything to load."""
    if not all(name in globals() for name in _ROOMS):
        await asyncio.to_thread(load)
