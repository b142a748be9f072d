"""What a peer that can be queried is asked, and what it answers, whichever protocol it speaks.

`find.py` and `retrieve.py` speak DIMSE, `wado.py` DICOMweb, `rest.py` the REST of Orthanc; who pulls knows only what
stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from node.network.incoming import Status


@dataclass(frozen=True)
class Wanted:
    """Which studies are looked for; what is empty is not asked.

    `since` and `until` are Study Dates, YYYYMMDD, both included. Of `modalities` any one in the study is enough.
    """

    since: str = ""
    until: str = ""
    modalities: tuple[str, ...] = ()
    accession_numbers: tuple[str, ...] = ()
    patient_ids: tuple[str, ...] = ()
    study_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """One study that a peer has; `instances` is Number of Study Related Instances (0020,1208), None where not told."""

    study_instance_uid: str
    study_date: str = ""
    accession_number: str = ""
    modalities: tuple[str, ...] = ()
    instances: int | None = None


@dataclass(frozen=True)
class Arrived:
    """One instance that was fetched: a Part 10 file, which whoever takes it may rename away."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path


@dataclass(frozen=True)
class Fetched:
    """What became of one study: how many instances were taken, and what failed, in words, without patient data."""

    taken: int
    failed: int = 0
    reason: str = ""


Take = Callable[[Arrived], Status]
"""Called for each instance, from any one thread at a time; only 0x0000 means that it is kept."""


class Source(Protocol):
    """A peer that is asked for studies. Used by one thread at a time.

    Every method raises AssociationFailed (or another PeerError) in words that say what to change, and on which side.
    """

    def find(self, wanted: Wanted) -> Iterator[Found]:
        """The studies that match, as they are told; each once."""
        ...

    def count(self, study_instance_uid: str) -> int | None:
        """How many instances the peer has of a study now; None where it does not tell, 0 where it has no such study."""
        ...

    def fetch(self, study_instance_uid: str, take: Take) -> Fetched:
        """Bring all instances of a study. With C-MOVE nobody is called: the listener takes them."""
        ...

    def close(self) -> None: ...
