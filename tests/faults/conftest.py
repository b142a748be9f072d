"""The acceptance tests' node and Orthanc, for tests that kill and break."""

from __future__ import annotations

from acceptance_parts import film, orthanc, running, storescu, stubbed

__all__ = ["film", "orthanc", "running", "storescu", "stubbed"]
