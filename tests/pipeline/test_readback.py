"""What a peer without associations is asked, over whatever it speaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from house import House
from test_deliver import of_study, report

from node.domain import DeliveryState
from node.errors import PeerError
from node.network.query import Sought
from node.pipeline.readback import ReadBack
from node.storage import deliveries, proofs


def test_it_is_committed_when_it_is_found_and_sent_again_when_it_is_not(
    house: House, image: Callable[..., Path]
) -> None:
    report(house, image())
    for delivery in deliveries.claim(house.store, "pacs", 9, now=house.now, lease=60):
        deliveries.sent(house.store, delivery, status=0, note="", now=house.now)
    peer = house.settings.peer_named("pacs")
    assert peer
    first, second = of_study(house)
    asked: list[str] = []
    answers: dict[str, bool] = {}

    def holds(sought: Sought) -> bool:
        asked.append(sought.sop_instance_uid)
        if not answers:
            raise PeerError("the service is down")
        assert sought.study_instance_uid == house.only_study().study_instance_uid
        return answers[sought.sop_instance_uid]

    one = ReadBack(
        house.store,
        peer,
        settings=house.settings,
        holds=holds,
        how="read back by QIDO-RS",
        clock=lambda: house.now,
        chance=lambda _a, b: b,
    )
    assert one.prove_due() == 0
    house.now += 3
    assert one.prove_due() == 2
    assert asked == [first.sop_instance_uid], "one failure is enough"
    assert {d.proof for d in of_study(house)} == {"the service is down"}
    assert [o.count for o in proofs.overdue(house.store, since=0)] == [2]
    answers |= {first.sop_instance_uid: True, second.sop_instance_uid: False}
    house.now += 1000
    assert one.prove_due() == 2
    found, lost = of_study(house)
    assert (found.state, found.proof) == (DeliveryState.COMMITTED, "read back by QIDO-RS")
    assert (lost.state, lost.reason) == (DeliveryState.QUEUED, "pacs does not find it")
    one.rest()
    one.close()
