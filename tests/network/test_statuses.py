"""What a status means for an object that was sent."""

from __future__ import annotations

import pytest

from node.network.statuses import classify, rejection


def test_success_is_stored_without_words() -> None:
    outcome = classify(0x0000)
    assert (outcome.status, outcome.error, outcome.kind) == (0, "", "stored")


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0xB123, 0xBFFF, 0x0107, 0x0116])
def test_a_warning_is_stored_with_a_note(status: int) -> None:
    assert classify(status).kind == "warning"


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110, 0x0122, 0x0210, 0x0213, 0xFE00])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert classify(status).kind == "retry"


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0117, 0x0124, 0x0211, 0x0212, 0xFF00, 0x1234])
def test_what_will_not_pass_is_permanent(status: int) -> None:
    assert classify(status).kind == "permanent"


def test_a_peer_that_has_the_object_already_has_stored_it() -> None:
    outcome = classify(0x0111)
    assert outcome.kind == "warning"
    assert "already has an object by this UID" in outcome.error


def test_the_peers_comment_is_quoted() -> None:
    assert classify(0xA700, "disk full").error == "answered 0xA700, out of resources (disk full)"


def test_a_rejection_is_put_into_words() -> None:
    assert rejection(1, 1, 7) == "rejects the association permanently: called AE title not recognised"
    assert rejection(2, 3, 2) == "rejects the association for now: local limit exceeded"
    assert rejection(2, 9, 9) == "rejects the association for now: source 9, reason 9"
