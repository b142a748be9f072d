"""Models, settings, conformance and peers, as people with each role see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from house import House
