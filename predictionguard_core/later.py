"""The rooms that take httpx with them: loaded when a call first needs them, off the event loop where there is one.

Importing an adapter, and making a model, shall cost little over the framework.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from predictionguard_core import lazy

if TYPE_CHECKING:
    from predictionguard_core import downloads as downloads
    from predictionguard_core import guards as guards
    from predictionguard_core import pools as pools

_ROOMS = ("guards", "pools", "downloads")

__getattr__ = lazy.modules(__name__, {name: f"predictionguard_core.{name}" for name in _ROOMS})


def load() -> None:
    """Load them all."""
    lazy.load(__name__, _ROOMS)


async def async_load() -> None:
    """The same, in a thread if there is anything to load."""
    if not all(name in globals() for name in _ROOMS):
        await asyncio.to_thread(load)
