"""The dashboard on a socket of its own: it serves, follows the node, and ends when it is told to."""

from __future__ import annotations

import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Authority
from fastapi import FastAPI
from visitors import Person, serving

from config.web import Web
from node.errors import StoreError, WebError
from node.network.orthanc import free_port
from node.web import server
from node.web.auth import SESSION
from node.web.server import serve


def test_what_is_due_each_hour_is_done_at_once_and_goes_on_when_it_fails(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HOUR", 0.0)
    stop, times = threading.Event(), 0

    def hourly() -> None:
        nonlocal times
        times += 1
        if times == 3:
            stop.set()
        raise StoreError("the database was busy")

    server.serve(app, Web(port=free_port()), stop, ready=lambda: None, hourly=hourly)
    assert times == 3


def test_events_follow_the_node_until_the_session_ends(
    app: FastAPI, viewer: Person, house: object, log_in: Callable[..., Person]
) -> None:
    rules = Web(port=free_port())
    with serving(app, rules):
        asked = urllib.request.Request(f"{rules.address}/events?part=flow&part=nothing")
        asked.add_header("Cookie", f"{SESSION}={viewer.cookies[SESSION]}")
        with urllib.request.urlopen(asked, timeout=20) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = [stream.readline().decode().strip() for _ in range(3)]
            assert lines == ["retry: 5000", "", "event: part"]
            viewer.post("/logout")
            while "event: gone" not in (line := stream.readline().decode()):
                assert line


def test_an_open_stream_does_not_keep_the_node_from_ending(app: FastAPI, viewer: Person) -> None:
    rules = Web(port=free_port())
    with serving(app, rules):
        asked = urllib.request.Request(f"{rules.address}/events?part=flow")
        asked.add_header("Cookie", f"{SESSION}={viewer.cookies[SESSION]}")
        stream = urllib.request.urlopen(asked, timeout=20)
        stream.readline()
        began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 6


def test_a_port_that_is_taken_is_said_to_be(app: FastAPI) -> None:
    rules = Web(port=free_port())
    with serving(app, rules), pytest.raises(WebError, match=r"cannot be opened: .*; change web\.port or web\.bind"):
        serve(app, rules, threading.Event(), ready=lambda: None)


def test_a_certificate_that_cannot_be_used_is_said_to_be(app: FastAPI, tmp_path: Path) -> None:
    rules = Web(port=free_port(), certificate=tmp_path / "no.crt", key=tmp_path / "no.key")
    with pytest.raises(WebError, match=r"web\.certificate or web\.key cannot be used: No such file"):
        serve(app, rules, threading.Event(), ready=lambda: None)


def test_it_is_served_by_https_with_a_certificate_of_its_own(app: FastAPI, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.files("web")
    rules = Web(port=free_port(), certificate=files.certificate, key=files.key)
    assert rules.address.startswith("https://127.0.0.1:")
    with serving(app, rules):
        trusted = ssl.create_default_context(cafile=str(authority.path))
        with urllib.request.urlopen(f"{rules.address}/login", timeout=20, context=trusted) as answer:
            assert answer.status == 200
