"""A running node and a real Orthanc that know each other, once for all tests of this folder."""

from __future__ import annotations

from acceptance_parts import browser, film, orthanc, running, storescu, stubbed

__all__ = ["browser", "film", "orthanc", "running", "storescu", "stubbed"]
