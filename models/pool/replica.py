"""What runs on the cluster: one bundle's network, asked for one image at a time, which Serve puts into batches.

The bundle comes as bytes, so that a host of the pool needs this program and nothing of the node's; they are verified
like any bundle, and have to be the one that was asked for.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ray import serve

from models.bundle import Bundle, BundleError
from models.engine import Floats, Prediction


@dataclass(frozen=True)
class Packed:
    """A bundle on its way: an uncompressed tar of its folder."""

    digest: str
    content: bytes

    def load(self, folder: Path) -> Bundle:
        """Unpack below `folder` and verify.

        Raises:
            BundleError: it is damaged, or another one.
        """
        with tarfile.open(fileobj=io.BytesIO(self.content)) as tar:
            tar.extractall(folder, filter="data")
        (path,) = folder.iterdir()
        found = Bundle.load(path)
        if found.digest != self.digest:
            raise BundleError(f"{found.ref}: digest {found.digest}, and {self.digest} was asked for")
        return found


@dataclass(frozen=True)
class Rules:
    """How a replica works. `gpu`: whether it has one; `threads`: operator threads, 0 = TensorFlow's choice."""

    gpu: bool
    threads: int
    batch: int
    batch_wait_seconds: float


class Replica:
    """A loaded, warm network behind Serve's dynamic batching."""

    def __init__(self, packed: Packed, rules: Rules) -> None:
        from models.predictor import Predictor

        folder = Path(tempfile.mkdtemp(prefix="overread-"))
        try:
            bundle = packed.load(folder)
            self._predictor = Predictor(bundle, device="gpu:0" if rules.gpu else "cpu", threads=rules.threads)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._batched.set_max_batch_size(rules.batch)  # type: ignore[attr-defined]
        self._batched.set_batch_wait_timeout_s(rules.batch_wait_seconds)  # type: ignore[attr-defined]

    async def __call__(self, one: Floats) -> tuple[str, int, Prediction]:
        """Device, process and prediction of one (height, width, channels) array."""
        found: Prediction = await self._batched(one)
        return self._predictor.device, os.getpid(), found

    @serve.batch
    async def _batched(self, inputs: list[Floats]) -> list[Prediction]:
        # In a thread: Serve's health check needs the loop
        return await asyncio.to_thread(self._predictor.predict_inputs, inputs)
