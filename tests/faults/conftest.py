"""What the matrix needs to be quick: pauses between attempts without length."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_pauses(request: pytest.FixtureRequest) -> Iterator[None]:
    """The jitter of the pauses comes from `random.uniform`; how long they are is tested in `test_pauses`."""
    with pytest.MonkeyPatch.context() as patch:
        if "real_pauses" not in request.keywords:
            patch.setattr(random, "uniform", lambda low, high: 0.0)
        yield
