"""The echo of the endurance tests, which can also show all that it was sent."""

from __future__ import annotations

from tests.endurance.conftest import _server, echo

__all__ = ["_server", "echo"]
