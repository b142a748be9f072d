"""The dashboard served: one listening socket, one thread, until told to stop."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable

import uvicorn

from config.web import Web
from node.edge import careful
from node.errors import WebError

CONNECTIONS = 256
LAST_SECONDS = 2
"""Streams of events never end by themselves; so long they are given when the node stops."""
POLL_SECONDS = 0.2
HOUR = 3600.0


def serve(
    app: Callable[..., object],
    rules: Web,
    stop: threading.Event,
    *,
    ready: Callable[[], None],
    hourly: Callable[[], None] = lambda: None,
) -> None:
    """Serve an application until `stop` is set; `ready` is called once it can be asked, `hourly` at once and each hour.

    Raises:
        WebError: the port or the certificate cannot be used, or the server ended by itself.
    """
    listening = _listen(rules)
    with listening:
        server = uvicorn.Server(_config(app, rules))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while thread.is_alive() and not server.started and not stop.is_set():
            stop.wait(0.02)
        if server.started:
            ready()
        due = time.monotonic()
        while thread.is_alive() and not stop.wait(POLL_SECONDS):
            if time.monotonic() >= due:
                due = time.monotonic() + HOUR
                careful(hourly)
        server.should_exit = True
        thread.join(LAST_SECONDS + 5)
    if not stop.is_set():
        raise WebError("the server of the dashboard ended by itself")


def _listen(rules: Web) -> socket.socket:
    family = socket.AF_INET6 if ":" in rules.bind else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((rules.bind, rules.port))
    except OSError as error:
        made.close()
        where = f"{rules.bind}:{rules.port}"
        raise WebError(f"{where} cannot be opened: {error.strerror}; change web.port or web.bind") from None
    return made


def _config(app: Callable[..., object], rules: Web) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,  # the door logs, without what was asked for
        server_header=False,
        date_header=True,
        proxy_headers=bool(rules.proxies),
        forwarded_allow_ips=list(rules.proxies),
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=LAST_SECONDS,
        h11_max_incomplete_event_size=32 * 1024,
        ssl_certfile=rules.certificate,
        ssl_keyfile=rules.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        what = getattr(error, "strerror", None) or type(error).__name__
        raise WebError(f"web.certificate or web.key cannot be used: {what}") from None
    if config.ssl:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config
