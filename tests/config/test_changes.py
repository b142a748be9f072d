"""Two versions of the settings: what differs, in words, and what a running node cannot take up."""

from __future__ import annotations

from typing import Any

from config.changes import AT_START, differences, held_back
from config.settings import Settings

PACS: dict[str, Any] = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
CT: dict[str, Any] = {"name": "ct", "ae_title": "CT", "networks": ["10.1.2.3"], "may": ["send"]}
CHEST: dict[str, Any] = {"name": "chest", "bundle": "chest-findings", "deliver_to": ["pacs"]}


def made(**sections: Any) -> Settings:
    return Settings(**({"peer": [PACS], "route": [CHEST]} | sections))


def test_each_peer_route_and_key_that_changed_is_named() -> None:
    new = made(
        peer=[PACS | {"host": "127.0.0.2", "port": 105}, CT],
        route=[CHEST | {"name": "films"}],
        deliver={"timeout_seconds": 10},
        node={"organisation": "St Luke"},
    )
    assert differences(made(), new) == [
        'node.organisation = "St Luke" (was "")',
        "peer pacs was changed: host, port",
        "peer ct was added",
        "route chest was removed",
        "route films was added",
        "deliver.timeout_seconds = 10 (was 30)",
    ]
    assert differences(new, new) == []


def test_the_order_of_peers_is_a_change_and_so_is_tls() -> None:
    assert differences(made(peer=[PACS, CT]), made(peer=[CT, PACS])) == ["the order of [[peer]] was changed"]
    assert differences(made(), made(tls={})) == ["[tls] was added"]
    assert differences(made(tls={}), made()) == ["[tls] was removed"]


def test_what_is_read_at_start_stays_as_it_was() -> None:
    new = made(
        node={"ae_title": "OTHER", "data_dir": "/elsewhere", "organisation": "St Luke"},
        listener={"bind": "0.0.0.0", "port": 104, "reserve_mb": 7},
        infer={"device": ["cpu"], "batch": 2},
        peer=[],
        route=[],
    )
    taken, keys = held_back(made(), new)
    assert keys == ["node.ae_title", "node.data_dir", "listener.bind", "listener.port", "infer.device"]
    assert (taken.node.ae_title, taken.node.organisation) == ("OVERREAD", "St Luke")
    assert (taken.listener.port, taken.listener.reserve_mb) == (11112, 7)
    assert (taken.infer.device, taken.infer.batch, taken.peer) == (["auto"], 2, [])


def test_each_key_that_is_read_at_start_exists() -> None:
    for section, keys in AT_START.items():
        model = type(getattr(made(tls={}), section))
        assert set(keys) <= set(model.model_fields)


def test_all_of_the_listener_is_read_at_start_but_what_an_instance_is_asked_for() -> None:
    assert set(type(made().listener).model_fields) - set(AT_START["listener"]) == {
        "commit",
        "reserve_mb",
        "drain_seconds",
    }
