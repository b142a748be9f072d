"""What a test needs and does not find."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

CI = os.environ.get("CI") == "true"


def missing(what: str) -> NoReturn:
    """Skip for a person, fail in CI: there every part is installed."""
    if CI:
        pytest.fail(f"{what} is missing, and CI must not skip")
    pytest.skip(f"{what} is missing")
