"""Records for tests of the storage room."""

from __future__ import annotations

from node.domain import Built, Origin, Received
from node.storage.store import Store

NOW = 1_800_000_000.0
ORIGIN = Origin("a" * 12, "PACS", "OVERREAD", "127.0.0.1", "pacs", NOW)


def received(store: Store, study: str, number: int = 1) -> Received:
    return Received(
        sop_instance_uid=f"{study}.{number}",
        sop_class_uid="1.2",
        study_instance_uid=study,
        series_instance_uid=f"{study}.9",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        digest=f"{number:064x}",
        size=1,
        path=store.spool_root / "obj" / f"{study}.{number}.dcm",
        modality="CR",
        is_image=True,
        patient_id="P1",
        accession_number=f"ACC{study}",
        identification={"PatientID": "P1", "StudyInstanceUID": study},
        received_at=NOW,
    )


def built(store: Store, uid: str, kind: str = "sr", ordinal: int = 1) -> Built:
    return Built(kind, ordinal, uid, "1.2.840.10008.5.1.4.1.1.88.34", "2.25.5", store.spool_root / "r.dcm", "d", 1)
