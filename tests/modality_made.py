"""Modalities that send study after study, as senders do: each image until it was acknowledged."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.uid import ComputedRadiographyImageStorage, generate_uid

from node.network.sender import Sender

IMAGE = "MR_small.dcm"


class Modality(threading.Thread):
    """Sends studies of one to three images to one of several receivers, and what one does not take to the next.

    `most`: how many studies; None: until it is stopped.
    """

    def __init__(
        self, receivers: Sequence[tuple[str, int]], folder: Path, pause: float, seed: int, *, most: int | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.studies: dict[str, int] = {}
        self.repeats = 0
        self._over = threading.Event()
        self._folder, self._pause, self._rng, self._most = folder, pause, random.Random(seed), most
        self._senders = itertools.cycle(
            Sender(calling_ae_title="MODALITY", called_ae_title="OVERREAD", host=host, port=port, timeout=5)
            for host, port in receivers
        )

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        ds = dcmread(str(get_testdata_file(IMAGE, download=False)))
        ds.Modality, ds.BodyPartExamined, ds.ViewPosition, ds.PatientAge = "CR", "CHEST", "PA", "040Y"
        # else the bundle would refuse it, and no model would be asked
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        used: set[Sender] = set()
        while not self._over.wait(self._pause) and (self._most is None or len(self.studies) < self._most):
            ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
            images = self._rng.randint(1, 3)
            sender = next(self._senders)
            for _ in range(images):
                ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
                path = self._folder / f"{ds.SOPInstanceUID}.dcm"
                dcmwrite(path, ds, enforce_file_format=True)
                used.add(sender)
                while next(iter(sender.send([path])))[1].status != 0x0000:
                    self.repeats += 1
                    time.sleep(0.05)
                    sender = next(self._senders)
                    used.add(sender)
                path.unlink()
            self.studies[ds.StudyInstanceUID] = images
        for sender in used:
            sender.close()
