"""The echo server of the endurance tests, which can also return everything it was sent."""

from __future__ import annotations

from tests.endurance.conftest import _server, echo

__all__ = ["_server", "echo"]
