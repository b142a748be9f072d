"""A node's data folder without its processes, and DICOM files as small as they may be."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from config.settings import Settings
from node.network.incoming import Incoming, Requestor, Status
from node.pipeline.receive import Receiver
from node.storage import studies
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store

SETTINGS: dict[str, Any] = {
    "listener": {"reserve_mb": 0},
    "peer": [
        {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104},
        {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 105},
    ],
    "route": [
        {"name": "chest", "when": {"Modality": ["CR", "DX"]}, "bundle": "cardiomegaly", "deliver_to": ["pacs"]},
    ],
}


def make_image(path: Path, *, pixels: Any = None, **attributes: Any) -> Path:
    """A small, valid CR image; attributes override, None deletes."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "P1", "Doe^Jane", "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260101", "120000", "1", "A1"
    ds.ReferringPhysicianName = ""
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "CR", "CHEST", "PA"
    array = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) if pixels is None else pixels
    ds.Rows, ds.Columns = array.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = array.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", ComputedRadiographyImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2")
    ds.save_as(path, enforce_file_format=True)
    return path


@dataclass
class House:
    """One node's data folder, with a clock that only moves when told, and hands to put instances in."""

    settings: Settings
    store: Store
    spool: Spool
    bell: Bell
    folder: Path
    now: float = 1_800_000_000.0
    own: str = "2.25.1"
    receiver: Receiver = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.receiver = Receiver(
            self.store,
            self.spool,
            settings=self.settings,
            bell=self.bell,
            own_device_uid=self.own,
            clock=lambda: self.now,
        )

    def begin(self, association: str = "a" * 12, *, calling: str = "PACS") -> str:
        self.receiver.on_accept(association, Requestor(calling, "OVERREAD", "127.0.0.1", 4000))
        return association

    def put(self, path: Path, *, association: str = "", sop: str = "", cls: str = "") -> Status:
        """Receive a copy of a file as the listener would hand it over."""
        from pydicom import dcmread

        ds = dcmread(path, stop_before_pixels=True)
        tmp = self.spool.tmp / f"in-{path.name}"
        shutil.copy(path, tmp)
        os.utime(tmp, (self.now, self.now))
        return self.receiver.on_instance(
            Incoming(
                association=association or "a" * 12,
                sop_class_uid=cls or str(ds.get("SOPClassUID", "")),
                sop_instance_uid=sop or str(ds.get("SOPInstanceUID", "")),
                transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
                path=tmp,
            )
        )

    def receive(self, *paths: Path, association: str = "") -> list[Status]:
        """One whole association with some files."""
        name = association or f"{len(list(self.spool.assoc.iterdir())):012x}"
        self.begin(name)
        answers = [self.put(path, association=name) for path in paths]
        self.receiver.on_end(name, "released")
        return answers

    def only_study(self) -> Any:
        (study,) = studies.latest(self.store, 10)
        return study
