"""One pass with the real models: killed while it reads, afterwards there is one report and one picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from receiving import uid_of
from running import RunningNode
from test_kills import kinds, send_until_acknowledged

from node.network.orthanc import Orthanc

pytestmark = [pytest.mark.fault, pytest.mark.orthanc, pytest.mark.model, pytest.mark.slow]


def test_a_real_model_is_killed_and_reads_again(
    running: RunningNode, orthanc: Orthanc, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    chest = film()
    running.arm("infer.read")
    send_until_acknowledged(running, storescu, chest)
    running.wait_for(running.went_off, seconds=60)
    running.finish(uid_of(chest), seconds=90)
    assert kinds(orthanc, uid_of(chest)) == {"SR": 1, "OT": 1}
    assert running.problems() == []
