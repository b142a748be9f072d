"""A browser without a script, and the dashboard on a real socket, for tests of the dashboard."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Cookies, Response

from config.web import Web
from node.web.auth import FIELD, SESSION, form_token
from node.web.server import serve

PASSWORD = "correct horse battery"


class Person:
    """A browser without a script: it keeps cookies, and sends a form with the token of the page that it is on."""

    def __init__(self, app: FastAPI, address: str = "http://127.0.0.1:8090") -> None:
        self._app = app
        self._address = address
        self.cookies = Cookies()

    def ask(self, method: str, path: str, **more: Any) -> Response:
        """One request; its answer is not followed anywhere."""
        return asyncio.run(self._ask(method, path, more))

    async def _ask(self, method: str, path: str, more: dict[str, Any]) -> Response:
        transport = ASGITransport(self._app)
        async with AsyncClient(transport=transport, base_url=self._address, cookies=self.cookies) as client:
            answer = await client.request(method, path, **more)
            self.cookies = client.cookies
        return answer

    def get(self, path: str, **headers: str) -> Response:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, **fields: str) -> Response:
        """A form of a page that is shown to somebody who is logged in."""
        token = form_token(self.cookies.get(SESSION) or "")
        return self.ask("POST", path, data={FIELD: token, **fields})

    def fill(self, page: str, **fields: str) -> Response:
        """Load a page and send its form."""
        (token,) = set(re.findall(r'name="form_token" value="(\w+)"', self.get(page).text))
        return self.ask("POST", page, data={FIELD: token, **fields})


@contextmanager
def serving(app: FastAPI, rules: Web) -> Iterator[None]:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=serve, args=(app, rules, stop), kwargs={"ready": ready.set})
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
