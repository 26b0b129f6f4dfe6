"""The rooms that take httpx with them: loaded when a call first needs them, off the event loop where there is one.

Importing an adapter, and making a model, shall cost little over the framework.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from predictionguard_core import lazy

if TYPE_CHECKING:
    from predictionguard_core.http import error_mapping as error_mapping
    from predictionguard_core.http import send as send
    from predictionguard_core.http import shared_clients as shared_clients
    from predictionguard_core.http import size_limits as size_limits
    from predictionguard_core.http import timeouts as timeouts
    from predictionguard_core.images import download as download

_MODULES = {
    "error_mapping": "predictionguard_core.http.error_mapping",
    "send": "predictionguard_core.http.send",
    "shared_clients": "predictionguard_core.http.shared_clients",
    "size_limits": "predictionguard_core.http.size_limits",
    "timeouts": "predictionguard_core.http.timeouts",
    "download": "predictionguard_core.images.download",
}

__getattr__ = lazy.modules(__name__, _MODULES)


def load() -> None:
    """Load them all."""
    lazy.load(__name__, _MODULES)


async def async_load() -> None:
    """The same, in a thread if there is anything to load."""
    if not all(name in globals() for name in _MODULES):
        await asyncio.to_thread(load)
